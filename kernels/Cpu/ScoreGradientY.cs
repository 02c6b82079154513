using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradient of <see cref="ScoreSoftmax"/> with respect to y. One part is 96 columns, which it owns, against all rows in blocks of 512.
/// Scores lie columns by rows here: strips of 12 columns read y in place as the first operand, and their weights are the first operand of the product
/// with x, so neither is transposed; x itself is packed once, both ways, for all parts.
/// </summary>
internal unsafe struct ScoreGradientY : ITeamJob
{
    /// <summary>Columns of a part.</summary>
    public const int ColumnsAPart = 8 * Tiles.MaxRows;

    private const int RowBlock = 512;
    private const int StrideScores = RowBlock + 16;

    public ScoreSoftmax Scores;
    public float Gradient;
    public float* Dy;
    public nint StrideDy;
    public bool Accumulate;
    private float* _across;                               // [ceil(rows / 32)][Dim][32]: x^T
    private float* _values;                               // blocks of rows, each [ceil(Dim / 32)][rows of the block][32]: x
    private float* _log;                                  // [rows rounded up]: logSumExp in base 2, +infinity behind the last row

    private readonly int ValuePanels => (Scores.Dim + Tiles.Columns - 1) / Tiles.Columns;

    private readonly int PaddedRows => (Scores.Rows + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns;

    /// <summary>Packs x into memory of the run.</summary>
    public void Pack(WorkerTeam team)
    {
        _across = ThreadScratch.RunFloats(((long)PaddedRows * (Scores.Dim + (ValuePanels * Tiles.Columns))) + PaddedRows);
        _values = _across + ((nint)PaddedRows * Scores.Dim);
        _log = _values + ((nint)PaddedRows * ValuePanels * Tiles.Columns);
        for (int r = 0; r < PaddedRows; r++) _log[r] = r < Scores.Rows ? Scores.LogSumExp[r] * VectorMath.Log2E : float.PositiveInfinity;
        PackJob job = new() { Gradient = this };
        team.Run(ref job, (Scores.Rows + RowBlock - 1) / RowBlock);
    }

    public readonly void Execute(int part, int worker)
    {
        float* scores = ThreadScratch.Floats(Tiles.MaxRows * StrideScores);
        int first = part * ColumnsAPart, end = Math.Min(Scores.Columns, first + ColumnsAPart);
        for (int row = 0; row < Scores.Rows; row += RowBlock)
            for (int column = first; column < end; column += Tiles.MaxRows)
                Strip(scores, column, Math.Min(Tiles.MaxRows, end - column), row, Math.Min(RowBlock, Scores.Rows - row));
    }

    private readonly void Strip(float* scores, int column, int columns, int row, int rows)
    {
        float* zero = stackalloc float[Tiles.Columns];
        float* tile = stackalloc float[Tiles.MaxRows * Tiles.Columns];
        float* offset = stackalloc float[Tiles.MaxRows];
        new Span<float>(zero, Tiles.Columns).Clear();
        int padded = 0;
        for (; padded < rows; padded += Tiles.Columns)
            Tiles.Multiply(columns, Scores.Y + (column * Scores.StrideY), Scores.StrideY, _across + ((nint)(row + padded) * Scores.Dim), Tiles.Columns, Scores.Dim,
                scores + padded, StrideScores, zero);
        for (int c = 0; c < columns; c++) offset[c] = Scores.Bias == null ? 0f : Scores.Bias[column + c] * VectorMath.Log2E;
        SoftmaxGradient.ByColumn(scores, StrideScores, columns, padded, Scores.Factor * VectorMath.Log2E, offset, _log + row, Gradient);
        for (int r = 0; r < rows; r++)
        {
            int target = Scores.Target(row + r) - column;
            if (target >= 0 && target < columns) scores[(target * StrideScores) + r] -= Gradient;
        }
        float* values = _values + ((nint)row * ValuePanels * Tiles.Columns);
        for (int p = 0; p < ValuePanels; p++)
        {
            int width = Math.Min(Tiles.Columns, Scores.Dim - (p * Tiles.Columns));
            Tiles.Multiply(columns, scores, StrideScores, values + ((nint)p * rows * Tiles.Columns), Tiles.Columns, rows, tile, Tiles.Columns, zero);
            float* dy = Dy + (column * StrideDy) + (p * Tiles.Columns);
            if (Accumulate || row > 0)
            {
                Elementwise.Add(dy, StrideDy, tile, Tiles.Columns, columns, width);
                continue;
            }
            for (int c = 0; c < columns; c++)
                new Span<float>(tile + (c * Tiles.Columns), width).CopyTo(new Span<float>(dy + (c * StrideDy), width));
        }
    }

    /// <summary>One part packs a block of rows of x, both ways.</summary>
    private struct PackJob : ITeamJob
    {
        public ScoreGradientY Gradient;

        public readonly void Execute(int part, int worker)
        {
            ScoreSoftmax scores = Gradient.Scores;
            int first = part * RowBlock, rows = Math.Min(RowBlock, scores.Rows - first);
            float* x = scores.X + (first * scores.StrideX);
            for (int r = 0; r < rows; r += Tiles.Columns)
                PanelPacking.Transpose(x + (r * scores.StrideX), scores.StrideX, Math.Min(Tiles.Columns, rows - r), scores.Dim,
                    Gradient._across + ((nint)(first + r) * scores.Dim));
            float* values = Gradient._values + ((nint)first * Gradient.ValuePanels * Tiles.Columns);
            for (int p = 0; p < Gradient.ValuePanels; p++)
                PanelPacking.Copy(x + (p * Tiles.Columns), scores.StrideX, rows, Math.Min(Tiles.Columns, scores.Dim - (p * Tiles.Columns)),
                    values + ((nint)p * rows * Tiles.Columns));
        }
    }
}
