namespace BgeMetal.Testing.Reference;

/// <summary>x / max(|x|, 1e-12) over rows of [rows, columns], in double precision.</summary>
public static class NormalizeRowsReference
{
    private const double SmallestNorm = 1e-12;

    public static double[] Forward(double[] x, int rows, int columns)
    {
        double[] y = new double[x.Length];
        for (int r = 0; r < rows; r++)
        {
            double norm = Norm(x, r, columns);
            for (int i = 0; i < columns; i++) y[(r * columns) + i] = x[(r * columns) + i] / norm;
        }
        return y;
    }

    /// <summary>dx = (dy - y (y . dy)) / |x|; below the smallest norm the divisor is a constant and dx = dy / 1e-12.</summary>
    public static double[] Backward(double[] dy, double[] x, int rows, int columns)
    {
        double[] dx = new double[x.Length];
        for (int r = 0; r < rows; r++)
        {
            double norm = Norm(x, r, columns), dot = 0;
            for (int i = 0; i < columns; i++) dot += x[(r * columns) + i] / norm * dy[(r * columns) + i];
            if (norm == SmallestNorm) dot = 0;
            for (int i = 0; i < columns; i++) dx[(r * columns) + i] = (dy[(r * columns) + i] - (x[(r * columns) + i] / norm * dot)) / norm;
        }
        return dx;
    }

    private static double Norm(double[] x, int row, int columns)
    {
        double squares = 0;
        for (int i = 0; i < columns; i++) squares += x[(row * columns) + i] * x[(row * columns) + i];
        return Math.Max(Math.Sqrt(squares), SmallestNorm);
    }
}
