using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Inverted dropout by counter: the mask of <see cref="DropoutMask"/> is a function of seed, row and column, so nothing is stored and the backward pass
/// is the same call on the gradient.
/// </summary>
public static unsafe class Dropout
{
    private const int FloatsAPart = 8 << 10;

    /// <summary>y = x * mask / (1 - probability).</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, cols], rows <paramref name="ldx"/> floats apart; the gradient of y in the backward pass.</param>
    /// <param name="ldx">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="probability">That an element becomes 0, in [0, 1).</param>
    /// <param name="seed">Decides the mask; a different one for every place and step.</param>
    /// <param name="y">[rows, cols]; may be x.</param>
    /// <param name="ldy">At least cols.</param>
    /// <param name="firstRow">The mask's row for row 0 of x: part of a batch then gets what the whole batch would give it.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(WorkerTeam team, float* x, int ldx, int rows, int cols, float probability, ulong seed, float* y, int ldy, int firstRow = 0)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(cols, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, cols);
        DropoutJob job = new()
        {
            X = x,
            StrideX = ldx,
            Rows = rows,
            Columns = cols,
            Mask = new DropoutMask(probability, seed, 0, firstRow),
            Y = y,
            StrideY = ldy,
            RowsAPart = Math.Max(1, FloatsAPart / cols),
        };
        team.Run(ref job, (rows + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>One part is a range of rows.</summary>
    private struct DropoutJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public int Rows;
        public int Columns;
        public DropoutMask Mask;
        public float* Y;
        public nint StrideY;
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            float* factors = ThreadScratch.Floats(Columns + DropoutMask.Excess);
            int end = Math.Min(Rows, (part + 1) * RowsAPart);
            for (int row = part * RowsAPart; row < end; row++)
            {
                Mask.Row((uint)row, 0, Columns, factors);
                LanePairs.Row<ProductPair>(X + (row * StrideX), factors, Y + (row * StrideY), Columns);
            }
        }
    }
}
