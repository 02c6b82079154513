namespace BgeMetal.Kernels.Cpu;

/// <summary>Mean cross-entropy over the rows of a small matrix of logits, as the reranker's groups are; double precision inside.</summary>
public static unsafe class SoftmaxCrossEntropy
{
    /// <summary>mean over rows of logSumExp(row) - row[target].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="logits">[rows, cols], rows <paramref name="ldLogits"/> floats apart.</param>
    /// <param name="ldLogits">At least cols.</param>
    /// <param name="rows">Rows; 0 gives a loss of 0.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="targets">[rows]: each row's right column, or null for column 0.</param>
    /// <param name="rowLoss">[rows].</param>
    /// <exception cref="ArgumentOutOfRangeException">A size or target is out of range.</exception>
    public static float Forward(WorkerTeam team, float* logits, int ldLogits, int rows, int cols, int* targets, float* rowLoss)
    {
        ScoreRows job = Hard(logits, ldLogits, rows, cols, targets);
        job.RowLoss = rowLoss;
        return job.Run(team);
    }

    /// <summary>dlogits (stored or added) = (softmax - one at the target) * lossGradient / rows.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="logits">[rows, cols].</param>
    /// <param name="ldLogits">At least cols.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="cols">Columns.</param>
    /// <param name="targets">As in the forward pass.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dlogits">[rows, cols]; may be the logits when stored.</param>
    /// <param name="lddLogits">At least cols.</param>
    /// <param name="accumulate">Adds instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size or target is out of range.</exception>
    public static void Backward(
        WorkerTeam team, float* logits, int ldLogits, int rows, int cols, int* targets, float lossGradient, float* dlogits, int lddLogits, bool accumulate)
    {
        ScoreRows job = Hard(logits, ldLogits, rows, cols, targets);
        job.WriteGradients(lossGradient, dlogits, lddLogits, accumulate);
        job.Run(team);
    }

    /// <summary>mean over rows of -sum over j of target[j] * log softmax(row)[j].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="logits">[rows, cols].</param>
    /// <param name="ldLogits">At least cols.</param>
    /// <param name="rows">Rows; 0 gives a loss of 0.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="targets">[rows, cols]: probabilities.</param>
    /// <param name="ldTargets">At least cols.</param>
    /// <param name="rowLoss">[rows].</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static float ForwardSoft(
        WorkerTeam team, float* logits, int ldLogits, int rows, int cols, float* targets, int ldTargets, float* rowLoss)
    {
        ScoreRows job = Soft(logits, ldLogits, rows, cols, targets, ldTargets);
        job.RowLoss = rowLoss;
        return job.Run(team);
    }

    /// <summary>dlogits (stored or added) = (softmax * sum of targets - target) * lossGradient / rows.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="logits">[rows, cols].</param>
    /// <param name="ldLogits">At least cols.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="cols">Columns.</param>
    /// <param name="targets">[rows, cols].</param>
    /// <param name="ldTargets">At least cols.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dlogits">[rows, cols]; may be the logits when stored.</param>
    /// <param name="lddLogits">At least cols.</param>
    /// <param name="accumulate">Adds instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void BackwardSoft(
        WorkerTeam team, float* logits, int ldLogits, int rows, int cols, float* targets, int ldTargets, float lossGradient,
        float* dlogits, int lddLogits, bool accumulate)
    {
        ScoreRows job = Soft(logits, ldLogits, rows, cols, targets, ldTargets);
        job.WriteGradients(lossGradient, dlogits, lddLogits, accumulate);
        job.Run(team);
    }

    private static ScoreRows Hard(float* logits, int ldLogits, int rows, int cols, int* targets) =>
        new() { Kind = ScoreLoss.Hard, Scores = logits, Stride = ldLogits, Rows = rows, Columns = cols, Labels = targets, Temperature = 1f };

    private static ScoreRows Soft(float* logits, int ldLogits, int rows, int cols, float* targets, int ldTargets)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ldTargets, cols);
        return new()
        {
            Kind = ScoreLoss.Soft,
            Scores = logits,
            Stride = ldLogits,
            Rows = rows,
            Columns = cols,
            Targets = targets,
            StrideTargets = ldTargets,
            Group = cols,
            Temperature = 1f,
        };
    }
}
