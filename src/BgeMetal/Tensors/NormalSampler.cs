namespace BgeMetal.Tensors;

/// <summary>
/// Normal deviates that are the same on every machine and in every version: SplitMix64 counters (Steele, Lea and Flood 2014) through the
/// Box-Muller transform, in double precision.
/// </summary>
internal sealed class NormalSampler
{
    private ulong _state;
    private double _spare = double.NaN;

    /// <summary>An independent sequence for each pair of <paramref name="seed"/> and <paramref name="stream"/>.</summary>
    public NormalSampler(int seed, int stream)
    {
        _state = (uint)seed;
        _state = Next() ^ (uint)stream;
        _state = Next();
    }

    /// <summary>Fills with deviates of mean 0 and the given standard deviation.</summary>
    public void Fill(Span<float> values, double standardDeviation)
    {
        foreach (ref float value in values) value = (float)(Sample() * standardDeviation);
    }

    private double Sample()
    {
        if (!double.IsNaN(_spare))
        {
            double spare = _spare;
            _spare = double.NaN;
            return spare;
        }
        double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform())), angle = 2 * Math.PI * Uniform();
        _spare = radius * Math.Sin(angle);
        return radius * Math.Cos(angle);
    }

    private double Uniform() => (Next() >> 11) * (1.0 / (1UL << 53));

    private ulong Next() => SplitMix64.Mix(_state += SplitMix64.Increment);
}
