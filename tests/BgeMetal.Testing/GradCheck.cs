namespace BgeMetal.Testing;

/// <summary>Proves a hand-derived gradient in double precision by central differences.</summary>
public static class GradCheck
{
    /// <summary>
    /// Compares <paramref name="gradient"/> with (loss(x + h) - loss(x - h)) / 2h for every element of <paramref name="x"/>. The loss reads x, which is
    /// changed and restored in place.
    /// </summary>
    /// <param name="name">What is checked, for the message.</param>
    /// <param name="x">The variable.</param>
    /// <param name="gradient">d loss / d x, as derived.</param>
    /// <param name="loss">The scalar as a function of the present content of x.</param>
    /// <param name="step">h: the truncation error is O(h^2), the rounding error O(1e-16 / h).</param>
    /// <param name="limit">Allowed |difference| relative to the norm of the gradient (at least 1).</param>
    public static void Check(string name, double[] x, double[] gradient, Func<double> loss, double step = 1e-5, double limit = 1e-7)
    {
        Assert.Equal(x.Length, gradient.Length);
        double norm = Math.Max(1, Math.Sqrt(gradient.Sum(g => g * g)));
        for (int i = 0; i < x.Length; i++)
        {
            double kept = x[i];
            x[i] = kept + step;
            double above = loss();
            x[i] = kept - step;
            double below = loss();
            x[i] = kept;
            double numeric = (above - below) / (2 * step);
            Assert.True(Math.Abs(numeric - gradient[i]) <= limit * norm, $"{name}[{i}]: derived {gradient[i]:g10}, by differences {numeric:g10}");
        }
    }

    /// <summary>sum of weights * values: a scalar whose gradient with respect to the values is the weights.</summary>
    public static double Weigh(double[] values, double[] weights)
    {
        Assert.Equal(values.Length, weights.Length);
        double sum = 0;
        for (int i = 0; i < values.Length; i++) sum += values[i] * weights[i];
        return sum;
    }
}
