using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Cross-entropy over the scores x y^T * factor + bias of rows against columns, without the [rows, columns] matrix: the core of <see cref="InfoNce"/>
/// (rows are queries, columns passages) and of <see cref="LinearCrossEntropy"/>'s forward pass (columns are the vocabulary). Scores are computed in tiles and forgotten,
/// and computed again for each gradient. Every sum is cut by the shape alone, never by the number of threads.
/// Forward: 2 R C D FLOP; each gradient: 4 R C D. Memory: a pair of numbers for each row and each chunk of columns; for the gradient of y two copies of
/// x; for the gradient of x at most 16 x 384 rows of partial sums.
/// </summary>
internal unsafe struct ScoreSoftmax
{
    /// <summary>Columns of a block.</summary>
    public const int ColumnBlock = 256;

    /// <summary>[rows, Dim].</summary>
    public float* X;

    /// <summary>Floats between rows of x.</summary>
    public nint StrideX;

    /// <summary>Rows of x.</summary>
    public int Rows;

    /// <summary>[columns, Dim].</summary>
    public float* Y;

    /// <summary>Floats between rows of y.</summary>
    public nint StrideY;

    /// <summary>Rows of y.</summary>
    public int Columns;

    /// <summary>The length of a row.</summary>
    public int Dim;

    /// <summary>[columns], or null; only with the factor 1.</summary>
    public float* Bias;

    /// <summary>What inner products are multiplied with; positive.</summary>
    public float Factor;

    /// <summary>[rows]: each row's right column, negative for a row that does not count; or null for row * <see cref="TargetStep"/>.</summary>
    public int* Targets;

    /// <summary>The right column of row r is r * TargetStep where there are no <see cref="Targets"/>.</summary>
    public int TargetStep;

    /// <summary>The column that the first row of y is: not 0 when the gradient of a part of the columns is wanted.</summary>
    public int FirstColumn;

    /// <summary>[rows]: the logarithm of the sum of exponentials; +infinity for a row that does not count.</summary>
    public float* LogSumExp;

    /// <summary>The row of y that is a row's right column; it need not be among those given. Negative for a row that does not count.</summary>
    public readonly int Target(int row) => (Targets == null ? row * TargetStep : Targets[row]) - FirstColumn;

    /// <summary>Refuses impossible sizes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public readonly void Check()
    {
        ArgumentOutOfRangeException.ThrowIfNegative(Rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(Columns, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(StrideX, Dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(StrideY, Dim);
        if (!(Factor > 0f) || !float.IsFinite(Factor)) throw new ArgumentOutOfRangeException(nameof(Factor), Factor, "the temperature must be positive and finite");
    }

    /// <summary>Writes LogSumExp and each row's loss: logSumExp - score of its target, 0 for a row that does not count.</summary>
    /// <returns>The mean over the rows that count, added up in their order; 0 when none does.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A target is not a column.</exception>
    public readonly float Forward(WorkerTeam team, float* rowLoss)
    {
        for (int r = 0; r < Rows; r++)
            if (Target(r) >= Columns) throw new ArgumentOutOfRangeException($"the target {Target(r)} of row {r} is not below {Columns}", (Exception?)null);
        if (Rows == 0) return 0f;
        int chunkColumns = Columns > 64 * ColumnBlock ? 4 * ColumnBlock : ColumnBlock, chunks = (Columns + chunkColumns - 1) / chunkColumns;
        float* partial = ThreadScratch.RunFloats((2L * chunks * Rows) + Rows);
        ScoreForward job = new() { Scores = this, ChunkColumns = chunkColumns, Partial = partial, Right = partial + (2L * chunks * Rows) };
        new Span<float>(job.Right, Rows).Clear();
        team.Run(ref job, chunks);
        job.Combine(chunks, rowLoss);
        double sum = 0;
        for (int r = 0; r < Rows; r++) sum += rowLoss[r];
        return (float)(sum / Math.Max(CountingRows(), 1));
    }

    /// <summary>The rows that count.</summary>
    public readonly int CountingRows()
    {
        int count = 0;
        for (int r = 0; r < Rows; r++)
            if (Target(r) >= 0) count++;
        return count;
    }

    /// <summary>dx (stored or added) = (softmax - one at the target) y * Factor * gradient, over the rows that count.</summary>
    public readonly void GradientX(WorkerTeam team, float gradient, float* dx, nint strideDx, bool accumulate)
    {
        if (Rows == 0) return;
        ScoreGradientX job = new() { Scores = this, Gradient = gradient * Factor };
        job.Divide();
        job.Partial = ThreadScratch.RunFloats((long)job.Groups * Rows * Dim);
        team.Run(ref job, job.Ranges * job.Groups);
        for (int group = 0; group < job.Groups; group++)
        {
            float* partial = job.Partial + ((nint)group * Rows * Dim);
            if (group > 0 || accumulate)
            {
                Elementwise.Add(dx, strideDx, partial, Dim, Rows, Dim);
                continue;
            }
            for (int r = 0; r < Rows; r++) new Span<float>(partial + ((nint)r * Dim), Dim).CopyTo(new Span<float>(dx + (r * strideDx), Dim));
        }
    }

    /// <summary>dy (stored or added) = the same transposed, times x.</summary>
    public readonly void GradientY(WorkerTeam team, float gradient, float* dy, nint strideDy, bool accumulate)
    {
        if (Rows == 0)
        {
            for (int c = 0; c < Columns && !accumulate; c++) new Span<float>(dy + (c * strideDy), Dim).Clear();
            return;
        }
        ScoreGradientY job = new() { Scores = this, Gradient = gradient * Factor, Dy = dy, StrideDy = strideDy, Accumulate = accumulate };
        job.Pack(team);
        team.Run(ref job, (Columns + ScoreGradientY.ColumnsAPart - 1) / ScoreGradientY.ColumnsAPart);
    }
}
