namespace BgeMetal.Testing.Reference;

/// <summary>
/// Mean cross-entropy of x y^T / temperature + bias with its gradients, in double precision: the contrastive loss (no bias) and the masked-LM loss
/// (temperature 1).
/// </summary>
public static class InfoNceReference
{
    /// <summary>The loss and the rows' losses; x [targets.Length, dim], y [columns, dim].</summary>
    public static (double Loss, double[] RowLoss) Forward(double[] x, double[] y, double[]? bias, int dim, double temperature, int[] targets)
    {
        (double loss, _, double[] rowLoss) = CrossEntropyReference.Hard(Scores(x, y, bias, dim, temperature), y.Length / dim, targets);
        return (loss, rowLoss);
    }

    /// <summary>With dS the gradient of the scores: dx = dS y / temperature, dy = dS^T x / temperature, dbias = column sums of dS.</summary>
    public static (double[] Dx, double[] Dy, double[] Dbias) Backward(double[] x, double[] y, double[]? bias, int dim, double temperature, int[] targets)
    {
        int columns = y.Length / dim;
        double[] scores = CrossEntropyReference.Hard(Scores(x, y, bias, dim, temperature), columns, targets).Gradient;
        double[] dx = new double[x.Length], dy = new double[y.Length], dbias = new double[columns];
        for (int r = 0; r < targets.Length; r++)
        {
            for (int c = 0; c < columns; c++)
            {
                double ds = scores[(r * columns) + c];
                dbias[c] += ds;
                for (int d = 0; d < dim; d++)
                {
                    dx[(r * dim) + d] += ds * y[(c * dim) + d] / temperature;
                    dy[(c * dim) + d] += ds * x[(r * dim) + d] / temperature;
                }
            }
        }
        return (dx, dy, dbias);
    }

    private static double[] Scores(double[] x, double[] y, double[]? bias, int dim, double temperature)
    {
        int rows = x.Length / dim, columns = y.Length / dim;
        double[] scores = new double[rows * columns];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
            {
                double sum = 0;
                for (int d = 0; d < dim; d++) sum += x[(r * dim) + d] * y[(c * dim) + d];
                scores[(r * columns) + c] = (sum / temperature) + (bias is null ? 0 : bias[c]);
            }
        }
        return scores;
    }
}
