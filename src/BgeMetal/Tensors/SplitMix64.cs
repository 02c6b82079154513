namespace BgeMetal.Tensors;

/// <summary>The finaliser of SplitMix64 (Steele, Lea and Flood 2014): well-spread 64-bit values from counters.</summary>
internal static class SplitMix64
{
    /// <summary>The counter's increment: 2^64 over the golden ratio.</summary>
    public const ulong Increment = 0x9E3779B97F4A7C15;

    /// <summary>The mixed value of a counter.</summary>
    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
