namespace BgeMetal.Testing.Reference;

/// <summary>Layer normalisation over rows of [rows, hidden] with the biased variance, in double precision.</summary>
public static class LayerNormReference
{
    public static (double[] Y, double[] Mean, double[] Rstd) Forward(double[] x, double[] gamma, double[] beta, int rows, int hidden, double epsilon)
    {
        double[] y = new double[x.Length], mean = new double[rows], rstd = new double[rows];
        for (int r = 0; r < rows; r++)
        {
            double sum = 0, squares = 0;
            for (int i = 0; i < hidden; i++) sum += x[(r * hidden) + i];
            mean[r] = sum / hidden;
            for (int i = 0; i < hidden; i++) squares += Math.Pow(x[(r * hidden) + i] - mean[r], 2);
            rstd[r] = 1 / Math.Sqrt((squares / hidden) + epsilon);
            for (int i = 0; i < hidden; i++) y[(r * hidden) + i] = ((x[(r * hidden) + i] - mean[r]) * rstd[r] * gamma[i]) + beta[i];
        }
        return (y, mean, rstd);
    }

    /// <summary>
    /// With xhat = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), dgamma = sum dy * xhat, dbeta = sum dy. For
    /// LayerNorm(x + residual), dx is the gradient of both.
    /// </summary>
    public static (double[] Dx, double[] Dgamma, double[] Dbeta) Backward(double[] dy, double[] x, double[] gamma, int rows, int hidden, double epsilon)
    {
        (_, double[] mean, double[] rstd) = Forward(x, gamma, new double[hidden], rows, hidden, epsilon);
        double[] dx = new double[x.Length], dgamma = new double[hidden], dbeta = new double[hidden];
        for (int r = 0; r < rows; r++)
        {
            double sum = 0, dot = 0;
            for (int i = 0; i < hidden; i++)
            {
                int at = (r * hidden) + i;
                double normal = (x[at] - mean[r]) * rstd[r];
                dgamma[i] += dy[at] * normal;
                dbeta[i] += dy[at];
                sum += dy[at] * gamma[i];
                dot += dy[at] * gamma[i] * normal;
            }
            for (int i = 0; i < hidden; i++)
            {
                int at = (r * hidden) + i;
                double normal = (x[at] - mean[r]) * rstd[r];
                dx[at] = rstd[r] * ((dy[at] * gamma[i]) - (sum / hidden) - (normal * dot / hidden));
            }
        }
        return (dx, dgamma, dbeta);
    }
}
