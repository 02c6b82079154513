using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Both gradients of <see cref="LinearCrossEntropy"/>. Blocks of 1024 rows by 2048 outputs: their logits are computed once more, become softmax less one at the label, and are
/// multiplied by the output vectors and by the rows with the matmuls of linear layers, which run nearer to the machine's peak than products fused with the softmax. Blocks are
/// cut by the shape alone and added up in order. 6 R V D FLOP; memory for one block and for both packed forms of its output vectors, 24 MB at D = 768.
/// </summary>
internal unsafe struct VocabularyGradients
{
    private const int RowBlock = 1024;
    private const int ColumnBlock = 2048;
    private const int RowsAPart = 16;

    public ScoreSoftmax Scores;                           // factor 1
    public float Gradient;
    public float* Dx;
    public int StrideDx;
    public bool AccumulateDx;
    public float* Dweight;                                // added to
    public int StrideDweight;
    public float* Dbias;                                  // added to, or null

    public readonly void Run(WorkerTeam team)
    {
        int dim = Scores.Dim, mostRows = Math.Min(Scores.Rows, RowBlock), mostColumns = Math.Min(Scores.Columns, ColumnBlock);
        int stride = ((mostColumns + Lanes.Count - 1) / Lanes.Count * Lanes.Count) + 16, strideX = (int)Scores.StrideX, strideY = (int)Scores.StrideY;
        long forth = PackedMatrix.Length(mostColumns, dim), back = PackedMatrix.Length(dim, mostColumns);
        // The kernels called below take memory of their parts only, so this block stays.
        float* weights = ThreadScratch.RunFloats(((long)mostRows * stride) + forth + back + ((long)mostRows * (dim + 16)));
        float* panels = weights + ((nint)mostRows * stride), transposed = panels + forth, product = transposed + back;
        for (int column = 0; column < Scores.Columns; column += ColumnBlock)
        {
            int columns = Math.Min(ColumnBlock, Scores.Columns - column);
            float* y = Scores.Y + (column * Scores.StrideY);
            PackedMatrix.Pack(team, y, strideY, columns, dim, panels);
            LinearBackward.PackTransposed(team, y, strideY, columns, dim, transposed);
            for (int row = 0; row < Scores.Rows; row += RowBlock)
            {
                int rows = Math.Min(RowBlock, Scores.Rows - row);
                float* x = Scores.X + (row * Scores.StrideX), dx = Dx + ((nint)row * StrideDx);
                Linear.Forward(team, x, strideX, rows, dim, panels, Scores.Bias == null ? null : Scores.Bias + column, columns, LinearEpilogue.None, null, 0, weights, stride);
                SoftmaxJob softmax = new() { Scores = Scores, Gradient = Gradient, Weights = weights, Stride = stride, Row = row, Rows = rows, Column = column, Columns = columns };
                team.Run(ref softmax, (rows + RowsAPart - 1) / RowsAPart);
                LinearBackward.Weight(team, weights, stride, x, strideX, rows, columns, dim, Dweight + ((nint)column * StrideDweight), StrideDweight);
                if (Dbias != null) LinearBackward.Bias(team, weights, stride, rows, columns, Dbias + column);
                if (column == 0 && !AccumulateDx)
                {
                    Linear.Forward(team, weights, stride, rows, columns, transposed, null, dim, LinearEpilogue.None, null, 0, dx, StrideDx);
                    continue;
                }
                Linear.Forward(team, weights, stride, rows, columns, transposed, null, dim, LinearEpilogue.None, null, 0, product, dim + 16);
                AddJob add = new() { X = dx, StrideX = StrideDx, Y = product, StrideY = dim + 16, Rows = rows, Columns = dim };
                team.Run(ref add, (rows + RowsAPart - 1) / RowsAPart);
            }
        }
    }

    /// <summary>One part turns some rows of logits into their gradients.</summary>
    private struct SoftmaxJob : ITeamJob
    {
        public ScoreSoftmax Scores;
        public float Gradient;
        public float* Weights;
        public nint Stride;
        public int Row;
        public int Rows;
        public int Column;
        public int Columns;

        public readonly void Execute(int part, int worker)
        {
            float* log = stackalloc float[RowsAPart];
            int first = part * RowsAPart, count = Math.Min(RowsAPart, Rows - first);
            float* weights = Weights + (first * Stride);
            for (int r = 0; r < count; r++) log[r] = Scores.LogSumExp[Row + first + r] * VectorMath.Log2E;
            SoftmaxGradient.ByRow(weights, Stride, count, Columns, VectorMath.Log2E, log, Gradient);
            for (int r = 0; r < count; r++)
            {
                int target = Scores.Target(Row + first + r) - Column;
                if (target >= 0 && target < Columns) weights[(r * Stride) + target] -= Gradient;
            }
        }
    }

    /// <summary>One part adds some rows.</summary>
    private struct AddJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public float* Y;
        public nint StrideY;
        public int Rows;
        public int Columns;

        public readonly void Execute(int part, int worker)
        {
            int first = part * RowsAPart;
            Elementwise.Add(X + (first * StrideX), StrideX, Y + (first * StrideY), StrideY, Math.Min(RowsAPart, Rows - first), Columns);
        }
    }
}
