namespace BgeMetal.Testing;

/// <summary>Reproducible test data. All values are exactly representable in float, so that oracle and kernel start from the same numbers.</summary>
public sealed class RandomData(int seed)
{
    private readonly Random _random = new(seed);

    /// <summary>Values uniform in [-scale, scale).</summary>
    public double[] Uniform(int count, double scale = 1)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++) values[i] = (float)(((_random.NextDouble() * 2) - 1) * scale);
        return values;
    }

    /// <summary>Whole numbers in [-most, most].</summary>
    public double[] Integers(int count, int most)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++) values[i] = _random.Next(-most, most + 1);
        return values;
    }

    /// <summary>Whole numbers in [0, below).</summary>
    public int[] Indices(int count, int below)
    {
        int[] values = new int[count];
        for (int i = 0; i < count; i++) values[i] = _random.Next(below);
        return values;
    }
}
