using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Testing.Reference;

/// <summary>y = f(x W^T + bias) [+ residual] in double precision; x [m, k], W [n, k], bias [n] or null.</summary>
public static class LinearReference
{
    public static double[] Forward(double[] x, double[] weight, double[]? bias, int m, int k, int n, LinearEpilogue epilogue = LinearEpilogue.None,
        double[]? residual = null)
    {
        double[] y = PreActivation(x, weight, bias, m, k, n);
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = epilogue switch
            {
                LinearEpilogue.Gelu => ActivationReference.Gelu(y[i]),
                LinearEpilogue.Tanh => Math.Tanh(y[i]),
                LinearEpilogue.Residual => y[i] + residual![i],
                _ => y[i],
            };
        }
        return y;
    }

    /// <summary>
    /// With z = x W^T + bias and dz = dy * f'(z): dx = dz W, dW = dz^T x, dbias = column sums of dz; the residual's gradient is dy itself.
    /// </summary>
    public static (double[] Dx, double[] Dweight, double[] Dbias) Backward(double[] dy, double[] x, double[] weight, double[]? bias, int m, int k, int n,
        LinearEpilogue epilogue = LinearEpilogue.None)
    {
        double[] z = PreActivation(x, weight, bias, m, k, n);
        double[] dx = new double[m * k], dweight = new double[n * k], dbias = new double[n];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double slope = epilogue switch
                {
                    LinearEpilogue.Gelu => ActivationReference.GeluDerivative(z[(i * n) + j]),
                    LinearEpilogue.Tanh => ActivationReference.TanhDerivative(z[(i * n) + j]),
                    _ => 1,
                };
                double dz = dy[(i * n) + j] * slope;
                dbias[j] += dz;
                for (int l = 0; l < k; l++)
                {
                    dx[(i * k) + l] += dz * weight[(j * k) + l];
                    dweight[(j * k) + l] += dz * x[(i * k) + l];
                }
            }
        }
        return (dx, dweight, dbias);
    }

    private static double[] PreActivation(double[] x, double[] weight, double[]? bias, int m, int k, int n)
    {
        double[] z = new double[m * n];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double sum = bias is null ? 0 : bias[j];
                for (int l = 0; l < k; l++) sum += x[(i * k) + l] * weight[(j * k) + l];
                z[(i * n) + j] = sum;
            }
        }
        return z;
    }
}
