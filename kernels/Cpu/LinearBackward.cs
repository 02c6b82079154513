using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradients of y = x W^T + bias. The input's is dy W, which is <see cref="Linear.Forward"/> over panels of the transposed weight
/// (<see cref="PackTransposed"/>). The weight's is dy^T x: blocks of 256 rows of dy are transposed and multiplied with 32-column panels of x by the same
/// 12 x 32 tile, each block's product being added to the result. An element is the sum of its blocks in order, and a block is one chain of multiply-adds
/// over its rows in order, so it depends on neither the number of threads nor how the matrix was cut.
/// Cost: 2 m n k FLOP each; x is read and copied once for every 384 rows of the weight.
/// </summary>
public static unsafe class LinearBackward
{
    private const int BlockRows = 256;
    private const int StrideBlock = BlockRows + 16;       // not a power of two: rows of the block must not share cache sets
    private const int RangeRows = 32 * Tiles.MaxRows;     // 384 x 272 floats of dy^T stay in the second-level cache
    private const int FewRangeRows = 8 * Tiles.MaxRows;   // below this, copying x would show beside the arithmetic
    private const int ColumnsAPart = 64;

    /// <summary>Packs W^T, so that Linear.Forward(dy [m, n], packed, no bias, k outputs) gives dx [m, k].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="weight">[n, k], rows <paramref name="ldWeight"/> floats apart.</param>
    /// <param name="ldWeight">At least k.</param>
    /// <param name="n">Outputs of the forward layer, at least 1.</param>
    /// <param name="k">Inputs of the forward layer, at least 1.</param>
    /// <param name="packed">Receives PackedMatrix.Length(k, n) floats: panels [ceil(k / 32)][n][32]. Must not overlap the source.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void PackTransposed(WorkerTeam team, float* weight, int ldWeight, int n, int k, float* packed)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldWeight, k);
        PackJob job = new() { Weight = weight, Stride = ldWeight, N = n, K = k, Packed = packed };
        team.Run(ref job, (k + Tiles.Columns - 1) / Tiles.Columns);
    }

    /// <summary>dw += dy^T x.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="dy">[m, n], rows <paramref name="lddy"/> floats apart.</param>
    /// <param name="lddy">At least n.</param>
    /// <param name="x">[m, k].</param>
    /// <param name="ldx">At least k.</param>
    /// <param name="m">Rows; 0 adds nothing.</param>
    /// <param name="n">Outputs, at least 1.</param>
    /// <param name="k">Inputs, at least 1.</param>
    /// <param name="dw">[n, k], added to; must not overlap dy or x.</param>
    /// <param name="lddw">At least k.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Weight(WorkerTeam team, float* dy, int lddy, float* x, int ldx, int m, int n, int k, float* dw, int lddw)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, n);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, k);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddw, k);
        if (m == 0) return;
        WeightJob job = new() { Dy = dy, StrideDy = lddy, X = x, StrideX = ldx, M = m, N = n, K = k, Dw = dw, StrideDw = lddw };
        job.Divide(team.Threads);
        team.Run(ref job, job.RowParts * job.PanelParts);
    }

    /// <summary>db += the column sums of dy, in blocks of 256 rows.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="dy">[m, n], rows <paramref name="lddy"/> floats apart.</param>
    /// <param name="lddy">At least n.</param>
    /// <param name="m">Rows; 0 adds nothing.</param>
    /// <param name="n">Columns, at least 1.</param>
    /// <param name="db">[n], added to.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Bias(WorkerTeam team, float* dy, int lddy, int m, int n, float* db)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, n);
        BiasJob job = new() { Dy = dy, StrideDy = lddy, M = m, N = n, Db = db };
        team.Run(ref job, m == 0 ? 0 : (n + ColumnsAPart - 1) / ColumnsAPart);
    }

    /// <summary>One part packs one panel.</summary>
    private struct PackJob : ITeamJob
    {
        public float* Weight;
        public nint Stride;
        public int N;
        public int K;
        public float* Packed;

        public readonly void Execute(int part, int worker)
        {
            int first = part * Tiles.Columns;
            PanelPacking.Copy(Weight + first, Stride, N, Math.Min(Tiles.Columns, K - first), Packed + ((nint)first * N));
        }
    }

    /// <summary>One part computes a range of rows of the weight times a range of its panels.</summary>
    private struct WeightJob : ITeamJob
    {
        public float* Dy;
        public nint StrideDy;
        public float* X;
        public nint StrideX;
        public int M;
        public int N;
        public int K;
        public float* Dw;
        public nint StrideDw;
        public int RowParts;
        public int PanelParts;

        private readonly int Panels => (K + Tiles.Columns - 1) / Tiles.Columns;

        private readonly int Strips => (N + Tiles.MaxRows - 1) / Tiles.MaxRows;

        /// <summary>Ranges of rows first, because cutting the columns transposes dy once more.</summary>
        public void Divide(int threads)
        {
            int wanted = threads == 1 ? 1 : 2 * threads;
            RowParts = Math.Max((N + RangeRows - 1) / RangeRows, Math.Min(wanted, N / FewRangeRows));
            PanelParts = Math.Clamp((wanted + RowParts - 1) / RowParts, 1, Math.Max(1, Panels / 4));
        }

        public readonly void Execute(int part, int worker)
        {
            int rowPart = part % RowParts, panelPart = part / RowParts;
            int from = (int)((long)Strips * rowPart / RowParts) * Tiles.MaxRows;
            int to = Math.Min(N, (int)((long)Strips * (rowPart + 1) / RowParts) * Tiles.MaxRows);
            int panel = (int)((long)Panels * panelPart / PanelParts), endPanel = (int)((long)Panels * (panelPart + 1) / PanelParts);
            float* transposed = ThreadScratch.Floats(((long)(to - from) * StrideBlock) + (BlockRows * Tiles.Columns));
            float* values = transposed + ((nint)(to - from) * StrideBlock);
            for (int t = 0; t < M; t += BlockRows)
            {
                int count = Math.Min(BlockRows, M - t);
                PanelPacking.TransposeRows(Dy + (t * StrideDy) + from, StrideDy, count, to - from, transposed, StrideBlock);
                for (int p = panel; p < endPanel; p++)
                {
                    int column = p * Tiles.Columns, columns = Math.Min(Tiles.Columns, K - column);
                    PanelPacking.Copy(X + (t * StrideX) + column, StrideX, count, columns, values);
                    Panel(transposed, values, count, from, to, column, columns);
                }
            }
        }

        private readonly void Panel(float* transposed, float* values, int count, int from, int to, int column, int columns)
        {
            float* tile = stackalloc float[Tiles.MaxRows * Tiles.Columns];
            float* zero = stackalloc float[Tiles.Columns];
            new Span<float>(zero, Tiles.Columns).Clear();
            for (int row = from, rows; row < to; row += rows)
            {
                rows = Tiles.Next(to - row);
                Tiles.Multiply(rows, transposed + ((row - from) * (nint)StrideBlock), StrideBlock, values, Tiles.Columns, count, tile, Tiles.Columns, zero);
                Elementwise.Add(Dw + (row * StrideDw) + column, StrideDw, tile, Tiles.Columns, rows, columns);
            }
        }
    }

    /// <summary>One part is a range of 64 columns.</summary>
    private struct BiasJob : ITeamJob
    {
        public float* Dy;
        public nint StrideDy;
        public int M;
        public int N;
        public float* Db;

        public readonly void Execute(int part, int worker)
        {
            int first = part * ColumnsAPart, columns = Math.Min(ColumnsAPart, N - first);
            for (int t = 0; t < M; t += BlockRows)
                ColumnSums.Add(Dy + (t * StrideDy) + first, StrideDy, Math.Min(BlockRows, M - t), columns, Db + first);
        }
    }
}
