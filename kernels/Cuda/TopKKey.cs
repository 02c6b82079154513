using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// A scored row as one 64-bit number whose unsigned order is the order of results: the higher score first, among equal scores the lower row, NaN after
/// everything else. 0 is no row at all. The upper half, the rank of the score alone, is what thresholds are compared with.
/// </summary>
internal static class TopKKey
{
    private const uint NaNRank = 1, Sign = 0x8000_0000, Infinity = 0x7F80_0000;

    /// <summary>The score's place in the order: at least 1; -0 and 0 have the same.</summary>
    public static uint Rank(float score)
    {
        uint bits = Interop.FloatAsInt(score);
        if ((bits & ~Sign) > Infinity) return NaNRank;
        if (bits == Sign) bits = 0;
        return (bits & Sign) != 0 ? ~bits : bits | Sign;
    }

    /// <summary>The key of a row.</summary>
    public static ulong Of(float score, uint row) => ((ulong)Rank(score) << 32) | ~row;

    /// <summary>The score of a key.</summary>
    public static float Score(ulong key)
    {
        uint rank = (uint)(key >> 32);
        return key == 0 ? float.NegativeInfinity : Interop.IntAsFloat((rank & Sign) != 0 ? rank & ~Sign : ~rank);
    }

    /// <summary>The row of a key; -1 for none.</summary>
    public static long Row(ulong key) => key == 0 ? -1L : ~(uint)key;
}
