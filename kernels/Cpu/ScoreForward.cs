using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The forward pass of <see cref="ScoreSoftmax"/>. One part is a chunk of columns against all rows, so a column's vector is transposed once; it leaves
/// each row's largest score and sum of exponentials, which are put together in the order of the chunks.
/// </summary>
internal unsafe struct ScoreForward : ITeamJob
{
    public ScoreSoftmax Scores;
    public int ChunkColumns;
    public float* Partial;                                // [chunks][2][rows]: the largest score, the sum of exponentials
    public float* Right;                                  // [rows]: the target's score

    public readonly void Execute(int part, int worker)
    {
        int first = part * ChunkColumns, end = Math.Min(Scores.Columns, first + ChunkColumns);
        float* max = Partial + (2 * (nint)part * Scores.Rows), sum = max + Scores.Rows;
        new Span<float>(max, Scores.Rows).Fill(float.NegativeInfinity);
        new Span<float>(sum, Scores.Rows).Clear();
        const int stride = ScoreSoftmax.ColumnBlock + 16;
        float* panels = ThreadScratch.Floats(((long)ScoreSoftmax.ColumnBlock * Scores.Dim) + (Tiles.MaxRows * stride) + ScoreSoftmax.ColumnBlock);
        float* scores = panels + ((nint)ScoreSoftmax.ColumnBlock * Scores.Dim), start = scores + (Tiles.MaxRows * stride);
        float* shrink = stackalloc float[Tiles.MaxRows];
        for (int column = first; column < end; column += ScoreSoftmax.ColumnBlock)
        {
            int columns = Math.Min(ScoreSoftmax.ColumnBlock, end - column);
            ScorePanels.PackColumns(in Scores, column, columns, panels, start);
            for (int row = 0, rows; row < Scores.Rows; row += rows)
            {
                rows = Tiles.Next(Scores.Rows - row);
                ScorePanels.Strip(in Scores, row, rows, columns, panels, start, scores, stride);
                for (int r = 0; r < rows; r++)
                {
                    int target = Scores.Target(row + r) - column;
                    if (target >= 0 && target < columns) Right[row + r] = scores[(r * stride) + target] * Scores.Factor;
                }
                SoftmaxStrip.Exponentials(scores, stride, rows, columns, Scores.Factor * VectorMath.Log2E, max + row, sum + row, shrink);
            }
        }
    }

    /// <summary>Puts the chunks together.</summary>
    public readonly void Combine(int chunks, float* rowLoss)
    {
        for (int row = 0; row < Scores.Rows; row++)
        {
            bool counts = Scores.Target(row) >= 0;
            float largest = float.NegativeInfinity;
            double sum = 0;
            for (int chunk = 0; chunk < chunks; chunk++)
            {
                float max = Partial[(2 * (nint)chunk * Scores.Rows) + row];
                if (!(max <= largest)) largest = max;     // a NaN stays
            }
            for (int chunk = 0; chunk < chunks; chunk++)
            {
                float* partial = Partial + (2 * (nint)chunk * Scores.Rows) + row;
                sum += partial[Scores.Rows] * Math.Exp((double)(*partial - largest) * Scores.Factor);
            }
            float log = (float)(((double)largest * Scores.Factor) + Math.Log(sum));
            Scores.LogSumExp[row] = counts ? log : float.PositiveInfinity;
            rowLoss[row] = counts ? log - Right[row] : 0f;
        }
    }
}

/// <summary>Tiles of scores, as both the forward pass and the gradient of x need them.</summary>
internal static unsafe class ScorePanels
{
    /// <summary>
    /// Transposes the vectors of a block of columns into panels [ceil(columns / 32)][Dim][32]; <paramref name="start"/> receives what their scores start
    /// from: the bias, or 0.
    /// </summary>
    public static void PackColumns(in ScoreSoftmax scores, int first, int columns, float* panels, float* start)
    {
        for (int j = 0; j < columns; j += Tiles.Columns)
            PanelPacking.Transpose(scores.Y + ((first + j) * scores.StrideY), scores.StrideY, Math.Min(Tiles.Columns, columns - j), scores.Dim,
                panels + ((nint)j * scores.Dim));
        int padded = (columns + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns;
        for (int j = 0; j < padded; j++) start[j] = scores.Bias == null || j >= columns ? 0f : scores.Bias[first + j];
    }

    /// <summary>Scores, not yet multiplied with the factor, of up to 12 rows against a packed block.</summary>
    public static void Strip(in ScoreSoftmax scores, int row, int rows, int columns, float* panels, float* start, float* result, nint stride)
    {
        for (int j = 0; j < columns; j += Tiles.Columns)
            Tiles.Multiply(rows, scores.X + (row * scores.StrideX), scores.StrideX, panels + ((nint)j * scores.Dim), Tiles.Columns, scores.Dim,
                result + j, stride, start + j);
    }
}
