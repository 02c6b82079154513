namespace BgeMetal.Testing;

/// <summary>Comparing a kernel's result with the double-precision oracle.</summary>
public static class Tolerance
{
    /// <summary>The norm error that fp32 kernels are held to.</summary>
    public const double Float32Norm = 1e-5;

    /// <summary>|actual - expected| / |expected| over all elements; 0 for two empty or two zero arrays. A NaN anywhere makes it NaN.</summary>
    public static double NormError(ReadOnlySpan<float> actual, ReadOnlySpan<double> expected)
    {
        Assert.Equal(expected.Length, actual.Length);
        double difference = 0, norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double d = actual[i] - expected[i];
            difference += d * d;
            norm += expected[i] * expected[i];
        }
        return difference == 0 ? 0 : Math.Sqrt(difference / norm);
    }

    /// <summary>The largest |actual - expected|; NaN if any element is NaN.</summary>
    public static double MaxError(ReadOnlySpan<float> actual, ReadOnlySpan<double> expected)
    {
        Assert.Equal(expected.Length, actual.Length);
        double most = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double d = Math.Abs(actual[i] - expected[i]);
            if (!(d <= most)) most = d;
        }
        return most;
    }

    /// <summary>Fails unless the norm error is within <paramref name="limit"/>.</summary>
    public static void AssertNorm(ReadOnlySpan<float> actual, ReadOnlySpan<double> expected, double limit = Float32Norm, string? what = null)
    {
        double error = NormError(actual, expected);
        Assert.True(error <= limit, $"{what ?? "norm error"} {error:g3}, allowed {limit:g3}");
    }

    /// <summary>Fails unless both arrays hold the same bits.</summary>
    public static void AssertBitEqual(ReadOnlySpan<float> actual, ReadOnlySpan<float> expected, string? what = null)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            if (BitConverter.SingleToInt32Bits(actual[i]) != BitConverter.SingleToInt32Bits(expected[i]))
                Assert.Fail($"{what ?? "results"} differ at {i}: {actual[i]:g9} and {expected[i]:g9}");
    }

    /// <summary>Fails unless every element differs by at most <paramref name="absolute"/>; NaN never passes.</summary>
    public static void AssertClose(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double absolute, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            if (!(Math.Abs((double)expected[i] - actual[i]) <= absolute))
                Assert.Fail($"{what}: element {i} is {actual[i]:g9}, expected {expected[i]:g9} within {absolute:g2}");
    }
}
