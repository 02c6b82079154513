using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Which keys each query of a packed batch sees, a bit a pair for all heads together (RetroMAE's enhanced decoding, Xiao et al., arXiv:2205.12035, section 3.2):
/// sequence b has as many queries as keys, L; its bits start at the 64-bit word starts[b] and have ceil(L / 64) words a row; bit j % 64 of word j / 64 of row
/// i says whether query i sees key j. The default value means that everything is visible.
/// </summary>
/// <param name="Words">The bits, two integers a word, low half first.</param>
/// <param name="Starts">[sequences]: each one's first word.</param>
public readonly record struct VisibleKeys(DevicePointer<int> Words, DevicePointer<int> Starts)
{
    /// <summary>The score of a hidden key, as on the CPU: -2^100. Finite, so that a tile without a visible key is no NaN.</summary>
    internal const float Hidden = -1.2676506e30f;

    /// <summary>True when everything is visible.</summary>
    public bool IsNull => Words.IsNull;

    /// <summary>
    /// The bits of scores whose rows are queries, this lane's two being <paramref name="row"/> and the one 8 below, and whose columns are 32 or 64 keys from
    /// <paramref name="key0"/> on.
    /// </summary>
    internal ScoreBits OfQueries(AttentionPlace place, int row, int key0, int columns, int lane)
    {
        long start = Start(place, key0), upper = start + Row(place, row), lower = start + Row(place, row + 8);
        int second = columns > 32 ? 1 : 0;
        return ScoreBits.Rows((uint)Words.Load(upper), (uint)Words.Load(upper + second), (uint)Words.Load(lower), (uint)Words.Load(lower + second), lane);
    }

    /// <summary>
    /// The bits of scores whose rows are keys, this lane's two being <paramref name="key"/> and the one 8 behind, and whose columns are 32 or 64 queries from
    /// <paramref name="query0"/> on.
    /// </summary>
    internal ScoreBits OfKeys(AttentionPlace place, int key, int query0, int columns, int lane)
    {
        ScoreBits bits = new();
        long start = Start(place, key);
        for (int i = 0; i < 8; i++)
        {
            int query = query0 + ((i >> 1) << 3) + ((lane & 3) << 1) + (i & 1), bit = ((i >> 1) << 3) + (i & 1);
            uint word = (uint)Words.Load(start + Row(place, query)) >> (key & 31);
            bits.Upper0 |= (word & 1) << bit;
            bits.Lower0 |= (word >> 8 & 1) << bit;
            if (columns > 32)
            {
                word = (uint)Words.Load(start + Row(place, query + 32)) >> (key & 31);
                bits.Upper1 |= (word & 1) << bit;
                bits.Lower1 |= (word >> 8 & 1) << bit;
            }
        }
        return bits;
    }

    private long Start(AttentionPlace place, int key) => ((long)Starts.Load(place.Sequence) << 1) + (key >> 5);

    // Tiles may reach behind the last query; what is read there does not matter.
    private static long Row(AttentionPlace place, int query) => (long)Math.Min(query, place.Queries - 1) * (((place.Keys + 63) >> 6) << 1);
}

/// <summary>
/// Dropout's choice as bits of scores. A draw decides four neighbouring keys of a query, which lie in several lanes: each lane makes its share of the draws and
/// they exchange the bits.
/// </summary>
internal static class DroppedPairs
{
    /// <summary>As <see cref="VisibleKeys.OfQueries"/>. Two lanes share a draw: the even one draws for the upper row, the odd one for the lower.</summary>
    public static ScoreBits OfQueries(DropoutMask mask, AttentionPlace place, int row, int key0, int columns, int lane) => OfQueries(mask, mask.Seed(), place, row, key0, columns, lane);

    /// <summary>The same with the mask's seed, read once.</summary>
    public static ScoreBits OfQueries(DropoutMask mask, ulong seed, AttentionPlace place, int row, int key0, int columns, int lane)
    {
        int query = place.FirstQuery + row + ((lane & 1) << 3), quad = (key0 >> 2) + ((lane & 2) >> 1), shift = (lane & 2) << 1;
        uint first = 0, second = 0;
        for (int j = 0; j < 4; j++)
        {
            first |= mask.Keep4(seed, query, place.Head, quad + 2 * j) << (8 * j + shift);
            if (columns > 32) second |= mask.Keep4(seed, query, place.Head, quad + 2 * j + 8) << (8 * j + shift);
        }
        uint otherFirst = WarpShuffle.Xor(first, 1), otherSecond = columns > 32 ? WarpShuffle.Xor(second, 1) : 0u;
        return (lane & 1) == 0 ? ScoreBits.Rows(first, second, otherFirst, otherSecond, lane) : ScoreBits.Rows(otherFirst, otherSecond, first, second, lane);
    }

    /// <summary>
    /// As <see cref="VisibleKeys.OfKeys"/>. Four lanes share a draw: the one whose key is t places behind a multiple of 4 draws for the columns of tiles t and t + 4.
    /// </summary>
    public static ScoreBits OfKeys(DropoutMask mask, AttentionPlace place, int key, int query0, int columns, int lane) => OfKeys(mask, mask.Seed(), place, key, query0, columns, lane);

    /// <summary>The same with the mask's seed, read once.</summary>
    public static ScoreBits OfKeys(DropoutMask mask, ulong seed, AttentionPlace place, int key, int query0, int columns, int lane)
    {
        int turn = key & 3, query = place.FirstQuery + query0 + 8 * turn + ((lane & 3) << 1);
        uint drawn = 0;
        for (int i = 0; i < columns >> 3; i++)
            drawn |= mask.Keep4(seed, query + ((i >> 2) << 5) + (i & 1), place.Head, (key >> 2) + (i & 2)) << (4 * i);
        ScoreBits bits = new();
        Collect(ref bits, drawn, turn, turn);
        Collect(ref bits, WarpShuffle.Xor(drawn, 4), turn, turn ^ 1);
        Collect(ref bits, WarpShuffle.Xor(drawn, 8), turn, turn ^ 2);
        Collect(ref bits, WarpShuffle.Xor(drawn, 12), turn, turn ^ 3);
        return bits;
    }

    private static void Collect(ref ScoreBits bits, uint drawn, int turn, int tile)
    {
        uint mine = (drawn >> turn) & 0x11111111;
        bits.Upper0 |= Pair(mine) << (8 * tile);
        bits.Lower0 |= Pair(mine >> 8) << (8 * tile);
        bits.Upper1 |= Pair(mine >> 16) << (8 * tile);
        bits.Lower1 |= Pair(mine >> 24) << (8 * tile);
    }

    // Bits 0 and 4 as bits 0 and 1.
    private static uint Pair(uint bits) => (bits | bits >> 3) & 3;
}
