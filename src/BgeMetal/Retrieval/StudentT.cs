namespace BgeMetal.Retrieval;

/// <summary>Student's t distribution, through the regularised incomplete beta function (Abramowitz and Stegun 26.5.27) by its continued fraction (DLMF 8.17.22).</summary>
internal static class StudentT
{
    private const double Tiny = 1e-300;
    private const int MaxTerms = 10_000;

    // Lanczos' approximation of the gamma function, g = 7, nine terms (relative error about 1e-15).
    private static readonly double[] s_lanczos =
    [
        0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
        9.9843695780195716e-6, 1.5056327351493116e-7,
    ];

    /// <summary>The probability of a value at least as far from 0 as <paramref name="t"/>, for at least one degree of freedom.</summary>
    public static double TwoSided(double t, double degrees)
    {
        if (double.IsNaN(t)) return double.NaN;
        if (double.IsInfinity(t)) return 0;
        double square = t * t;
        return Beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square));
    }

    /// <summary>I_x(a, b), the regularised incomplete beta function; y = 1 - x.</summary>
    private static double Beta(double a, double b, double x, double y)
    {
        if (x <= 0 || y <= 0) return x <= 0 ? 0 : 1;
        double front = Math.Exp(LogGamma(a + b) - LogGamma(a) - LogGamma(b) + (a * Math.Log(x)) + (b * Math.Log(y)));
        return x < (a + 1) / (a + b + 2) ? front * Fraction(a, b, x) / a : 1 - (front * Fraction(b, a, y) / b);
    }

    /// <summary>The continued fraction of the incomplete beta function by Lentz' method; converges fast for x below (a + 1) / (a + b + 2).</summary>
    private static double Fraction(double a, double b, double x)
    {
        double c = 1, d = 1 / Away(1 - ((a + b) * x / (a + 1))), value = d;
        for (int m = 1; m <= MaxTerms; m++)
        {
            Step(m * (b - m) * x / ((a + (2 * m) - 1) * (a + (2 * m))));
            double last = Step(-(a + m) * (a + b + m) * x / ((a + (2 * m)) * (a + (2 * m) + 1)));
            if (Math.Abs(last - 1) < 1e-16) break;
        }

        return value;

        double Step(double term)
        {
            d = 1 / Away(1 + (term * d));
            c = Away(1 + (term / c));
            value *= d * c;
            return d * c;
        }
    }

    private static double Away(double x) => Math.Abs(x) < Tiny ? Tiny : x;

    private static double LogGamma(double x)
    {
        double sum = s_lanczos[0], t = x + 6.5;
        for (int i = 1; i < s_lanczos.Length; i++) sum += s_lanczos[i] / (x - 1 + i);
        return (0.5 * Math.Log(2 * Math.PI)) + ((x - 0.5) * Math.Log(t)) - t + Math.Log(sum);
    }
}
