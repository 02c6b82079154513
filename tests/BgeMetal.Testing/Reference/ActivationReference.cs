namespace BgeMetal.Testing.Reference;

/// <summary>Elementwise functions and their derivatives in double precision.</summary>
public static class ActivationReference
{
    /// <summary>The error function to about 1e-16: Maclaurin series up to 3, continued fraction of erfc (Lentz) beyond.</summary>
    public static double Erf(double x)
    {
        double a = Math.Abs(x);
        if (double.IsNaN(x)) return x;
        if (a > 6) return Math.Sign(x);
        if (a <= 3)
        {
            double term = x, sum = x;
            for (int n = 1; n < 200; n++)
            {
                term *= -x * x / n;
                double next = sum + (term / ((2 * n) + 1));
                if (next == sum) break;
                sum = next;
            }
            return 2 / Math.Sqrt(Math.PI) * sum;
        }
        double fraction = a;
        for (int n = 200; n >= 1; n--) fraction = a + (n / 2.0 / fraction);
        return Math.Sign(x) * (1 - (Math.Exp(-a * a) / (Math.Sqrt(Math.PI) * fraction)));
    }

    public static double Gelu(double x) => 0.5 * x * (1 + Erf(x / Math.Sqrt(2)));

    /// <summary>Phi(x) + x * phi(x).</summary>
    public static double GeluDerivative(double x) =>
        (0.5 * (1 + Erf(x / Math.Sqrt(2)))) + (x * Math.Exp(-0.5 * x * x) / Math.Sqrt(2 * Math.PI));

    public static double TanhDerivative(double x)
    {
        double t = Math.Tanh(x);
        return 1 - (t * t);
    }
}
