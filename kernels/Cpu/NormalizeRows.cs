using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>Euclidean normalisation of rows, as torch.nn.functional.normalize defines it.</summary>
public static unsafe class NormalizeRows
{
    /// <summary>The smallest norm a row is divided by.</summary>
    public const float SmallestNorm = 1e-12f;

    private const int FloatsAPart = 32 << 10;

    /// <summary>y = x / max(|x|, 1e-12), row by row; the norm is accumulated in fp32 in the fixed order of <see cref="RowReductions"/>.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, cols], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="y">[rows, cols]; may be x.</param>
    /// <param name="ldy">At least cols.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(WorkerTeam team, float* x, int ldx, int rows, int cols, float* y, int ldy)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(cols, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, cols);
        NormalizeJob job = new() { X = x, StrideX = ldx, Rows = rows, Columns = cols, Y = y, StrideY = ldy, RowsAPart = Math.Max(1, FloatsAPart / cols) };
        team.Run(ref job, (rows + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>One part is a range of rows.</summary>
    private struct NormalizeJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public int Rows;
        public int Columns;
        public float* Y;
        public nint StrideY;
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            int first = part * RowsAPart, end = Math.Min(Rows, first + RowsAPart);
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Range<Lanes512>(first, end); break;
                case VectorWidth.Bits256: Range<Lanes256>(first, end); break;
                default: Range<Lanes128>(first, end); break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Range<T>(int first, int end) where T : unmanaged, ILanes<T>
        {
            for (int row = first; row < end; row++)
            {
                float* x = X + (row * StrideX);
                float* y = Y + (row * StrideY);
                float norm = Math.Max(MathF.Sqrt(RowReductions.SquaredDeviations<T>(x, Columns, 0f)), SmallestNorm);
                T divisor = T.Create(norm);
                int i = 0;
                for (; i <= Columns - Lanes.Count; i += Lanes.Count) T.Store(T.Load(x + i) / divisor, y + i);
                for (; i < Columns; i++) y[i] = x[i] / norm;
            }
        }
    }
}
