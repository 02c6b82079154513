using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradient of <see cref="ScoreSoftmax"/> with respect to x. One part is a range of rows against a group of columns and writes a partial sum of its
/// own; there are more groups than one only where the rows alone would not keep a few threads busy.
/// </summary>
internal unsafe struct ScoreGradientX : ITeamJob
{
    private const int RowsAPart = 32 * Tiles.MaxRows;
    private const int WantedParts = 16;
    private const int StrideScores = ScoreSoftmax.ColumnBlock + 16;

    public ScoreSoftmax Scores;
    public float Gradient;
    public float* Partial;                                // [Groups][rows][Dim]
    public int Ranges;
    public int Groups;

    private readonly int Blocks => (Scores.Columns + ScoreSoftmax.ColumnBlock - 1) / ScoreSoftmax.ColumnBlock;

    /// <summary>Cuts by the shape alone.</summary>
    public void Divide()
    {
        Ranges = (Scores.Rows + RowsAPart - 1) / RowsAPart;
        Groups = Math.Clamp(WantedParts / Ranges, 1, Math.Max(1, Blocks / 4));
    }

    public readonly void Execute(int part, int worker)
    {
        int range = part % Ranges, group = part / Ranges;
        int from = range * RowsAPart, to = Math.Min(Scores.Rows, from + RowsAPart);
        int firstBlock = (int)((long)Blocks * group / Groups), endBlock = (int)((long)Blocks * (group + 1) / Groups);
        int valuePanels = (Scores.Dim + Tiles.Columns - 1) / Tiles.Columns;
        float* panels = ThreadScratch.Floats(((long)ScoreSoftmax.ColumnBlock * (Scores.Dim + (valuePanels * Tiles.Columns))) + (Tiles.MaxRows * StrideScores) + ScoreSoftmax.ColumnBlock);
        float* values = panels + ((nint)ScoreSoftmax.ColumnBlock * Scores.Dim);
        float* scores = values + ((nint)ScoreSoftmax.ColumnBlock * valuePanels * Tiles.Columns), start = scores + (Tiles.MaxRows * StrideScores);
        float* result = Partial + ((nint)group * Scores.Rows * Scores.Dim);
        new Span<float>(result + ((nint)from * Scores.Dim), (to - from) * Scores.Dim).Clear();
        for (int block = firstBlock; block < endBlock; block++)
        {
            int column = block * ScoreSoftmax.ColumnBlock, columns = Math.Min(ScoreSoftmax.ColumnBlock, Scores.Columns - column);
            ScorePanels.PackColumns(in Scores, column, columns, panels, start);
            for (int p = 0; p < valuePanels; p++)
                PanelPacking.Copy(Scores.Y + (column * Scores.StrideY) + (p * Tiles.Columns), Scores.StrideY, columns,
                    Math.Min(Tiles.Columns, Scores.Dim - (p * Tiles.Columns)), values + ((nint)p * columns * Tiles.Columns));
            for (int row = from, rows; row < to; row += rows)
            {
                rows = Tiles.Next(to - row);
                ScorePanels.Strip(in Scores, row, rows, columns, panels, start, scores, StrideScores);
                Weights(scores, row, rows, column, columns);
                Add(scores, values, valuePanels, columns, rows, result + ((nint)row * Scores.Dim));
            }
        }
    }

    private readonly void Weights(float* scores, int row, int rows, int column, int columns)
    {
        float* log = stackalloc float[Tiles.MaxRows];
        for (int r = 0; r < rows; r++) log[r] = Scores.LogSumExp[row + r] * VectorMath.Log2E;
        SoftmaxGradient.ByRow(scores, StrideScores, rows, columns, Scores.Factor * VectorMath.Log2E, log, Gradient);
        for (int r = 0; r < rows; r++)
        {
            int target = Scores.Target(row + r) - column;
            if (target >= 0 && target < columns) scores[(r * StrideScores) + target] -= Gradient;
        }
    }

    private readonly void Add(float* weights, float* values, int valuePanels, int columns, int rows, float* result)
    {
        float* tile = stackalloc float[Tiles.MaxRows * Tiles.Columns];
        float* zero = stackalloc float[Tiles.Columns];
        new Span<float>(zero, Tiles.Columns).Clear();
        for (int p = 0; p < valuePanels; p++)
        {
            int first = p * Tiles.Columns;
            Tiles.Multiply(rows, weights, StrideScores, values + ((nint)p * columns * Tiles.Columns), Tiles.Columns, columns, tile, Tiles.Columns, zero);
            Elementwise.Add(result + first, Scores.Dim, tile, Tiles.Columns, rows, Math.Min(Tiles.Columns, Scores.Dim - first));
        }
    }
}
