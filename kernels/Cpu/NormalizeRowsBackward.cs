using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradient of <see cref="NormalizeRows"/>: with y = x / |x|, dx = (dy - y (y . dy)) / |x|. A row shorter than the smallest norm was divided by a
/// constant, so there dx = dy / 1e-12, as in PyTorch.
/// </summary>
public static unsafe class NormalizeRowsBackward
{
    private const int FloatsAPart = 32 << 10;

    /// <summary>dx (stored or added) from dy, row by row.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, cols]: the forward pass's input.</param>
    /// <param name="ldx">At least cols.</param>
    /// <param name="dy">[rows, cols].</param>
    /// <param name="lddy">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="dx">[rows, cols]; may be dy.</param>
    /// <param name="lddx">At least cols.</param>
    /// <param name="accumulate">Adds to dx instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Run(WorkerTeam team, float* x, int ldx, float* dy, int lddy, int rows, int cols, float* dx, int lddx, bool accumulate)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(cols, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddx, cols);
        BackwardJob job = new()
        {
            X = x,
            StrideX = ldx,
            Dy = dy,
            StrideDy = lddy,
            Rows = rows,
            Columns = cols,
            Dx = dx,
            StrideDx = lddx,
            Accumulate = accumulate,
            RowsAPart = Math.Max(1, FloatsAPart / cols),
        };
        team.Run(ref job, (rows + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>One part is a range of rows.</summary>
    private struct BackwardJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public float* Dy;
        public nint StrideDy;
        public int Rows;
        public int Columns;
        public float* Dx;
        public nint StrideDx;
        public bool Accumulate;
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

        private readonly void Range<T>(int first, int end) where T : unmanaged, ILanes<T>
        {
            for (int row = first; row < end; row++)
            {
                float* x = X + (row * StrideX);
                float* dy = Dy + (row * StrideDy);
                float norm = MathF.Sqrt(DotProduct.Of<T>(x, x, Columns));
                float along = norm > NormalizeRows.SmallestNorm ? DotProduct.Of<T>(x, dy, Columns) / norm / norm : 0f;
                Row<T>(x, dy, along, Math.Max(norm, NormalizeRows.SmallestNorm), Dx + (row * StrideDx));
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Row<T>(float* x, float* dy, float along, float norm, float* dx) where T : unmanaged, ILanes<T>
        {
            T slope = T.Create(-along), divisor = T.Create(norm);
            int i = 0;
            for (; i <= Columns - Lanes.Count; i += Lanes.Count)
            {
                T d = T.MultiplyAdd(T.Load(x + i), slope, T.Load(dy + i)) / divisor;
                T.Store(Accumulate ? T.Load(dx + i) + d : d, dx + i);
            }
            for (; i < Columns; i++)
            {
                float d = VectorUnit.MultiplyAdd(x[i], -along, dy[i]) / norm;
                dx[i] = Accumulate ? dx[i] + d : d;
            }
        }
    }
}
