using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Which keys each query of a packed batch sees, a bit a pair for all heads together (RetroMAE's enhanced decoding, Xiao et al., arXiv:2205.12035, section 3.2):
/// sequence b has as many queries as keys, L; its bits start at the 64-bit word starts[b] and have ceil(L / 64) words a row; bit j % 64 of word j / 64 of row
/// i says whether query i sees key j. The default value means that everything is visible.
/// </summary>
/// <param name="Words">The bits, two integers a word, low half first; start at a multiple of 8 bytes.</param>
/// <param name="Starts">[sequences]: each one's first word.</param>
public readonly record struct VisibleKeys(DevicePointer<int> Words, DevicePointer<int> Starts)
{
    /// <summary>The score of a hidden key, as on the CPU: -2^100. Finite, so that a tile without a visible key is no NaN.</summary>
    internal const float Hidden = -1.2676506e30f;

    internal const float Ln2 = 0.693147182f;

    /// <summary>True when everything is visible.</summary>
    public bool IsNull => Words.IsNull;

    /// <summary>The bits of this lane's two rows, <paramref name="row"/> and the one 8 below, and 64 keys from <paramref name="key0"/> on.</summary>
    internal ScoreBits OfQueries(AttentionPlace place, int row, int key0, int lane)
    {
        int rowWords = ((place.Keys + 63) >> 6) << 1;
        long start = ((long)Starts.Load(place.Sequence) << 1) + (key0 >> 5);
        long upper = start + (long)Math.Min(row, place.Queries - 1) * rowWords, lower = start + (long)Math.Min(row + 8, place.Queries - 1) * rowWords;
        return ScoreBits.Rows((uint)Words.Load(upper), (uint)Words.Load(upper + 1), (uint)Words.Load(lower), (uint)Words.Load(lower + 1), lane);
    }
}

/// <summary>Dropout's choice as bits of scores.</summary>
internal static class DroppedPairs
{
    /// <summary>
    /// The bits of this lane's two rows of queries and 64 keys from <paramref name="key0"/> on. A draw decides four neighbouring keys of a row, which two lanes share:
    /// the even one draws for the upper row, the odd one for the lower, and they exchange.
    /// </summary>
    public static ScoreBits OfQueries(DropoutMask mask, AttentionPlace place, int row, int key0, int lane)
    {
        ulong seed = mask.Seed();
        int drawn = place.FirstQuery + row + ((lane & 1) << 3), quad = (key0 >> 2) + ((lane & 2) >> 1), shift = (lane & 2) << 1;
        uint first = 0, second = 0;
        for (int j = 0; j < 4; j++)
        {
            first |= mask.Keep4(seed, drawn, place.Head, quad + 2 * j) << (8 * j + shift);
            second |= mask.Keep4(seed, drawn, place.Head, quad + 2 * j + 8) << (8 * j + shift);
        }
        uint otherFirst = WarpShuffle.Xor(first, 1), otherSecond = WarpShuffle.Xor(second, 1);
        return (lane & 1) == 0 ? ScoreBits.Rows(first, second, otherFirst, otherSecond, lane) : ScoreBits.Rows(otherFirst, otherSecond, first, second, lane);
    }
}
