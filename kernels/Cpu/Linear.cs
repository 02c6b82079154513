using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>What <see cref="Linear.Forward"/> does with x W^T + bias.</summary>
public enum LinearEpilogue
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>GELU with the error function, absolute error below 1e-6.</summary>
    Gelu,

    /// <summary>Hyperbolic tangent.</summary>
    Tanh,

    /// <summary>Adds the residual matrix.</summary>
    Residual,
}

/// <summary>
/// y = f(x W^T + bias) for row-major activations and a packed weight. Activations are used in place; a 12 x 32 tile runs over the whole k in one pass
/// (Goto and van de Geijn's layering without the k level: C is written once). The order is: a block of weight panels that stays in the second-level
/// cache, strips of 12 rows, panels (for few rows: panels, strips); the epilogue runs over each tile while it is in the first-level cache. Each output element is the bias followed by
/// one chain of multiply-adds over k in order, so its value depends on neither m, the position of its row, nor the number of threads.
/// Cost: 2 m n k FLOP; the weight is read once from memory and once for each further strip of 12 rows from the second-level cache, x once for each block.
/// </summary>
public static unsafe class Linear
{
    private const long BlockBytes = 384 << 10;
    private const int FewRows = 4 * Tiles.MaxRows;        // up to here the rows stay in the first-level cache beside a panel: panels outside, strips inside
    private const long WorthSharing = 1 << 18;            // multiply-adds a part should have: about 3 us of work

    /// <summary>y = f(x W^T + bias).</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[m, k], rows <paramref name="ldx"/> floats apart. Strides that are a power of two are slow: use k + 16.</param>
    /// <param name="ldx">At least k.</param>
    /// <param name="m">Rows; 0 does nothing.</param>
    /// <param name="k">Inputs, at least 1.</param>
    /// <param name="packed">The weight as <see cref="PackedMatrix.Pack"/> wrote it.</param>
    /// <param name="bias">[n], or null for none.</param>
    /// <param name="n">Outputs, at least 1.</param>
    /// <param name="epilogue">f.</param>
    /// <param name="residual">[m, n] when the epilogue is <see cref="LinearEpilogue.Residual"/>, else ignored.</param>
    /// <param name="ldResidual">At least n when there is a residual.</param>
    /// <param name="y">[m, n]; must not overlap x or the residual. Columns behind n are left alone.</param>
    /// <param name="ldy">At least n.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, float* x, int ldx, int m, int k, float* packed, float* bias, int n,
        LinearEpilogue epilogue, float* residual, int ldResidual, float* y, int ldy)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, k);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, n);
        if (epilogue == LinearEpilogue.Residual)
        {
            ArgumentNullException.ThrowIfNull(residual);
            ArgumentOutOfRangeException.ThrowIfLessThan(ldResidual, n);
        }
        if (m == 0) return;
        LinearJob job = new()
        {
            X = x,
            StrideX = ldx,
            M = m,
            K = k,
            Packed = packed,
            Bias = bias,
            N = n,
            Epilogue = epilogue,
            Residual = residual,
            StrideResidual = ldResidual,
            Y = y,
            StrideY = ldy,
        };
        job.Divide(team.Threads);
        team.Run(ref job, job.RowParts * job.PanelParts);
    }

    /// <summary>One part computes a range of rows times a range of panels.</summary>
    private struct LinearJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public int M;
        public int K;
        public float* Packed;
        public float* Bias;
        public int N;
        public LinearEpilogue Epilogue;
        public float* Residual;
        public nint StrideResidual;
        public float* Y;
        public nint StrideY;
        public int RowParts;
        public int PanelParts;

        private readonly int Panels => (N + Tiles.Columns - 1) / Tiles.Columns;

        /// <summary>Chooses the parts: panels for few rows, so that no weight is read twice; strips of rows for many.</summary>
        public void Divide(int threads)
        {
            (RowParts, PanelParts) = (1, 1);
            if (threads == 1) return;
            int strips = (M + Tiles.MaxRows - 1) / Tiles.MaxRows;
            long parts = Math.Clamp((long)M * N * K / WorthSharing, 1, 4L * threads);
            if (M >= 512)
            {
                RowParts = (int)Math.Min(parts, strips);
                PanelParts = (int)Math.Min((parts + RowParts - 1) / RowParts, Panels);
            }
            else
            {
                PanelParts = (int)Math.Min(parts, Panels);
                RowParts = (int)Math.Min((parts + PanelParts - 1) / PanelParts, strips);
            }
        }

        public readonly void Execute(int part, int worker)
        {
            int strips = (M + Tiles.MaxRows - 1) / Tiles.MaxRows;
            int rowPart = part % RowParts, panelPart = part / RowParts;
            int firstRow = (int)((long)strips * rowPart / RowParts) * Tiles.MaxRows;
            int endRow = Math.Min(M, (int)((long)strips * (rowPart + 1) / RowParts) * Tiles.MaxRows);
            int panel = (int)((long)Panels * panelPart / PanelParts);
            int endPanel = (int)((long)Panels * (panelPart + 1) / PanelParts);
            int blockPanels = (int)Math.Max(1, BlockBytes / ((long)K * Tiles.Columns * sizeof(float)));
            for (; panel < endPanel; panel += blockPanels)
                Block(firstRow, endRow, panel, Math.Min(endPanel, panel + blockPanels));
        }

        private readonly void Block(int firstRow, int endRow, int firstPanel, int endPanel)
        {
            float* edge = stackalloc float[Tiles.MaxRows * Tiles.Columns];
            float* start = stackalloc float[Tiles.Columns];
            new Span<float>(start, Tiles.Columns).Clear();
            if (endRow - firstRow <= FewRows)
            {
                for (int panel = firstPanel; panel < endPanel; panel++)
                    for (int row = firstRow, strip = 0; row < endRow; strip++)
                        row += Tile(row, endRow, panel, edge, start, strip < 2 ? NextPanel(panel, strip) : null);
                return;
            }
            for (int row = firstRow, rows = 0; row < endRow; row += rows)
                for (int panel = firstPanel; panel < endPanel; panel++)
                    rows = Tile(row, endRow, panel, edge, start, panel == firstPanel ? X + ((row + Tiles.MaxRows) * StrideX) : null);
        }

        // With few rows the weights, which come from the third-level cache or from memory, are what takes the time: while the first two strips of a panel
        // compute, each fetches one half of the next panel. (With many rows the first tile of a strip fetches the rows of the next strip instead.)
        private readonly float* NextPanel(int panel, int half) => Packed + ((nint)K * Tiles.Columns * (panel + 1)) + ((nint)K * Tiles.Columns / 2 * half);

        // Computes one tile and returns its rows.
        private readonly int Tile(int row, int endRow, int panel, float* edge, float* start, float* ahead)
        {
            int rows = Tiles.Next(endRow - row);
            int column = panel * Tiles.Columns, columns = Math.Min(Tiles.Columns, N - column);
            float* x = X + (row * StrideX);
            float* y = Y + (row * StrideY) + column;
            float* weights = Packed + ((nint)column * K);
            float* bias = Bias == null ? start : Bias + column;
            if (columns == Tiles.Columns)
            {
                Tiles.Multiply(rows, x, StrideX, weights, Tiles.Columns, K, y, StrideY, bias, ahead);
                Finish(y, StrideY, row, rows, column, columns);
                return rows;
            }
            if (Bias != null) new Span<float>(bias, columns).CopyTo(new Span<float>(start, columns));
            Tiles.Multiply(rows, x, StrideX, weights, Tiles.Columns, K, edge, Tiles.Columns, start, ahead);
            Finish(edge, Tiles.Columns, row, rows, column, columns);
            for (int r = 0; r < rows; r++)
                new Span<float>(edge + (r * Tiles.Columns), columns).CopyTo(new Span<float>(y + (r * StrideY), columns));
            return rows;
        }

        // In methods of their own on purpose: see TileRows.
        private readonly void Finish(float* tile, nint stride, int row, int rows, int column, int columns)
        {
            switch (Epilogue)
            {
                case LinearEpilogue.Gelu: Elementwise.Apply<GeluFunction>(tile, stride, rows, columns); break;
                case LinearEpilogue.Tanh: Elementwise.Apply<TanhFunction>(tile, stride, rows, columns); break;
                case LinearEpilogue.Residual: Elementwise.Add(tile, stride, Residual + (row * StrideResidual) + column, StrideResidual, rows, columns); break;
                default: break;
            }
        }
    }
}
