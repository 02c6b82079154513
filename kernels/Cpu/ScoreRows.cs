namespace BgeMetal.Kernels.Cpu;

/// <summary>The losses that <see cref="ScoreRows"/> computes.</summary>
internal enum ScoreLoss
{
    Hard,
    Soft,
    Divergence,
    Staircase,
}

/// <summary>
/// Losses over the rows of a score matrix that exists, and their gradients: one part is a range of rows, the arithmetic is double precision in order.
/// Used for groups and for distillation, where matrices are small beside the encoder that made them.
/// </summary>
internal unsafe struct ScoreRows : ITeamJob
{
    public ScoreLoss Kind;
    public float* Scores;
    public nint Stride;
    public int Rows;
    public int Columns;
    public int* Labels;                                   // Hard: the right column of each row, or null for 0
    public float* Targets;                                // the others: [rows, Group]
    public nint StrideTargets;
    public int Group;
    public float TeacherTemperature;                      // 0: targets are probabilities; else they are scores, and softmax(targets / this) is meant
    public float Temperature;
    public float* RowLoss;                                // forward
    public float* Gradients;                              // backward: [rows, Columns]
    public nint StrideGradients;
    public bool Accumulate;
    public double RowGradient;
    public int RowsAPart;

    /// <summary>Makes this a backward pass of the mean loss.</summary>
    public void WriteGradients(float lossGradient, float* gradients, int stride, bool accumulate)
    {
        RowGradient = (double)lossGradient / Math.Max(Rows, 1);
        Gradients = gradients;
        StrideGradients = stride;
        Accumulate = accumulate;
    }

    /// <summary>Checks what all kinds share, runs, and returns the mean of the rows' losses in a forward pass.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public float Run(WorkerTeam team)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(Rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(Columns, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Stride, Columns);
        if (Gradients != null) ArgumentOutOfRangeException.ThrowIfLessThan(StrideGradients, Columns);
        for (int r = 0; r < Rows && Kind == ScoreLoss.Hard && Labels != null; r++)
            if ((uint)Labels[r] >= (uint)Columns) throw new ArgumentOutOfRangeException($"the target {Labels[r]} of row {r} is not below {Columns}", (Exception?)null);
        RowsAPart = Math.Max(1, 4096 / Columns);
        team.Run(ref this, (Rows + RowsAPart - 1) / RowsAPart);
        if (RowLoss == null) return 0f;
        double sum = 0;
        for (int r = 0; r < Rows; r++) sum += RowLoss[r];
        return (float)(sum / Math.Max(Rows, 1));
    }

    public readonly void Execute(int part, int worker)
    {
        double* scores = (double*)ThreadScratch.Floats(4 * ((long)Columns + Math.Max(Group, 1)));
        double* gradients = scores + Columns, targets = gradients + Columns, logs = targets + Group;
        int end = Math.Min(Rows, (part + 1) * RowsAPart);
        for (int row = part * RowsAPart; row < end; row++)
        {
            for (int j = 0; j < Columns; j++) scores[j] = Scores[(row * Stride) + j] / (double)Temperature;
            new Span<double>(gradients, Columns).Clear();
            double loss = Kind == ScoreLoss.Hard ? Hard(scores, gradients, Labels == null ? 0 : Labels[row]) : Distilled(row, scores, gradients, targets, logs);
            if (RowLoss != null) RowLoss[row] = (float)loss;
            for (int j = 0; j < Columns && Gradients != null; j++)
            {
                float* gradient = Gradients + (row * StrideGradients) + j;
                float value = (float)(gradients[j] * RowGradient / Temperature);
                *gradient = Accumulate ? *gradient + value : value;
            }
        }
    }

    private readonly double Hard(double* scores, double* gradients, int label)
    {
        double log = LogSum.Exp(scores, Columns);
        for (int j = 0; j < Columns; j++) gradients[j] = Math.Exp(scores[j] - log);
        gradients[label] -= 1;
        return log - scores[label];
    }

    private readonly double Distilled(int row, double* scores, double* gradients, double* targets, double* logs)
    {
        for (int j = 0; j < Group; j++) targets[j] = Targets[(row * StrideTargets) + j];
        if (TeacherTemperature > 0f)
        {
            for (int j = 0; j < Group; j++) targets[j] /= TeacherTemperature;
            double log = LogSum.Exp(targets, Group);
            for (int j = 0; j < Group; j++) targets[j] = Math.Exp(targets[j] - log);
        }
        int first = Columns == Group ? 0 : row * Group;
        return Kind == ScoreLoss.Staircase ? Staircase(first, scores, gradients, targets, logs) : Soft(scores + first, gradients + first, targets);
    }

    // -sum t log softmax over the own group, with sum t log t added for the divergence.
    private readonly double Soft(double* scores, double* gradients, double* targets)
    {
        double log = LogSum.Exp(scores, Group), total = 0, loss = 0;
        for (int j = 0; j < Group; j++)
        {
            total += targets[j];
            loss += targets[j] * (log - scores[j]);
            if (Kind == ScoreLoss.Divergence && targets[j] > 0) loss += targets[j] * Math.Log(targets[j]);
        }
        for (int j = 0; j < Group; j++) gradients[j] = (Math.Exp(scores[j] - log) * total) - targets[j];
        return loss;
    }

    // Step i is a cross-entropy over the columns outside the group and those of the group from i on: its logarithm grows from that of step i + 1 by one
    // column. Columns outside take part in every step with the same exponential, so they are visited once.
    private readonly double Staircase(int first, double* scores, double* gradients, double* targets, double* logs)
    {
        double outside = LogSum.Both(LogSum.Exp(scores, first), LogSum.Exp(scores + first + Group, Columns - first - Group));
        double log = outside, loss = 0, share = 0;
        for (int i = Group - 1; i >= 0; i--)
        {
            logs[i] = log = LogSum.Both(log, scores[first + i]);
            loss += targets[i] * (log - scores[first + i]);
            share += targets[i] * Math.Exp(outside - log);
        }
        for (int j = 0; j < Columns; j++)
            if (j < first || j >= first + Group) gradients[j] = share * Math.Exp(scores[j] - outside);
        for (int j = 0; j < Group; j++)
        {
            double sum = -targets[j];
            for (int i = 0; i <= j; i++) sum += targets[i] * Math.Exp(scores[first + j] - logs[i]);
            gradients[first + j] = sum;
        }
        return loss;
    }
}
