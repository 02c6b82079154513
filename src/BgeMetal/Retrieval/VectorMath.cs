namespace BgeMetal.Retrieval;

/// <summary>Arithmetic on single vectors outside of the model, in double precision.</summary>
public static class VectorMath
{
    /// <summary>x / max(|x|, 1e-12), in place.</summary>
    public static void NormalizeInPlace(Span<float> x)
    {
        double scale = 1 / Math.Max(Math.Sqrt(Dot(x, x)), 1e-12);
        foreach (ref float value in x) value = (float)(value * scale);
    }

    /// <summary>The inner product of two vectors of the same length.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        if (x.Length != y.Length) throw new ArgumentException($"vectors of {x.Length} and {y.Length} components", nameof(y));
        double sum = 0;
        for (int i = 0; i < x.Length; i++) sum += (double)x[i] * y[i];
        return sum;
    }

    /// <summary>The cosine of two vectors of the same length; 0 when one of them is zero.</summary>
    public static double Cosine(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        double norms = Math.Sqrt(Dot(x, x) * Dot(y, y));
        return norms == 0 ? 0 : Dot(x, y) / norms;
    }

    /// <summary>1 / (1 + exp(-x)): a reranker's logit as a score between 0 and 1.</summary>
    public static float Sigmoid(float x) => (float)(1 / (1 + Math.Exp(-x)));
}
