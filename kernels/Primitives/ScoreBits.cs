namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A bit for each of a lane's scores: bit 8 (j % 4) + e % 2 of word j / 4 of its row belongs to accumulator 4 j + e. Other bits mean nothing, so that the bits of
/// 32 columns in order, shifted right by 2 (lane % 4), are already such a word.
/// </summary>
internal struct ScoreBits
{
    /// <summary>Of the upper row, columns 0 to 31 and 32 to 63; then of the lower row.</summary>
    public uint Upper0, Upper1, Lower0, Lower1;

    /// <summary>Which of the four words holds the bit of an accumulator.</summary>
    public static int WordOf(int field) => (field >> 1 & 1) * 2 + (field >> 4 & 1);

    /// <summary>And at which place.</summary>
    public static int PlaceOf(int field) => 8 * (field >> 2 & 3) + (field & 1);

    /// <summary>The bit of an accumulator; on the host only.</summary>
    public readonly bool this[int field]
    {
        get
        {
            int word = WordOf(field);
            return ((word == 0 ? Upper0 : word == 1 ? Upper1 : word == 2 ? Lower0 : Lower1) >> PlaceOf(field) & 1) != 0;
        }
    }

    /// <summary>1 for the first <paramref name="count"/> columns of both rows.</summary>
    public static ScoreBits Columns(int count, int lane)
    {
        uint first = FirstBits(count) >> ((lane & 3) << 1), second = FirstBits(count - 32) >> ((lane & 3) << 1);
        return new() { Upper0 = first, Upper1 = second, Lower0 = first, Lower1 = second };
    }

    /// <summary>From words that hold 32 columns of a row each, in order.</summary>
    public static ScoreBits Rows(uint upper0, uint upper1, uint lower0, uint lower1, int lane)
    {
        int shift = (lane & 3) << 1;
        return new() { Upper0 = upper0 >> shift, Upper1 = upper1 >> shift, Lower0 = lower0 >> shift, Lower1 = lower1 >> shift };
    }

    /// <summary>1 for all columns of the upper row, of the lower row, of both or of none.</summary>
    public static ScoreBits Rows(bool upper, bool lower)
    {
        uint first = upper ? uint.MaxValue : 0u, second = lower ? uint.MaxValue : 0u;
        return new() { Upper0 = first, Upper1 = first, Lower0 = second, Lower1 = second };
    }

    private static uint FirstBits(int count) => count >= 32 ? uint.MaxValue : count <= 0 ? 0u : (1u << count) - 1;
}
