namespace BgeMetal.Tensors;

/// <summary>
/// Random numbers that depend on nothing but their key, so on no thread, no order and no earlier draw: a SplitMix64 sequence (Steele, Lea and Flood 2014) whose
/// start is mixed from the words of the key. The same on every machine and in every version. A mutable value: copy it on purpose only.
/// </summary>
internal struct CounterRandom
{
    private const ulong Gamma = 0x9E3779B97F4A7C15;

    private ulong _state;

    /// <summary>The sequence of a key, for example (seed, purpose, epoch, row). Keys that differ in any word give independent sequences.</summary>
    public CounterRandom(params ReadOnlySpan<long> key)
    {
        foreach (long word in key) _state = Mix((_state + Gamma) ^ (ulong)word) + Gamma;
    }

    /// <summary>The finaliser of SplitMix64: a bijection whose every output bit depends on every input bit.</summary>
    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>64 random bits.</summary>
    public ulong Next() => Mix(_state += Gamma);

    /// <summary>A number uniform in [0, 1) with 53 bits.</summary>
    public double Uniform() => (Next() >> 11) * (1.0 / (1UL << 53));

    /// <summary>A whole number uniform in [0, <paramref name="bound"/>), without bias (Lemire 2019).</summary>
    public int Below(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bound);
        UInt128 product = (UInt128)Next() * (ulong)bound;
        if ((ulong)product < (ulong)bound)
        {
            ulong reject = unchecked(0UL - (ulong)bound) % (ulong)bound;
            while ((ulong)product < reject) product = (UInt128)Next() * (ulong)bound;
        }

        return (int)(ulong)(product >> 64);
    }

    /// <summary>Puts <paramref name="items"/> in a uniformly random order (Fisher and Yates).</summary>
    public void Shuffle(Span<int> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = Below(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }
}
