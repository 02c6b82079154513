using System.Globalization;
using System.Runtime.CompilerServices;

namespace BgeMetal.Text;

/// <summary>
/// Tells, from a table, when a character is a grapheme cluster of its own (Unicode Standard Annex #29), so that clusters need only be measured where marks,
/// joiners, Hangul letters, surrogates or line ends meet.
/// </summary>
internal static class GraphemeTable
{
    private const byte Leads = 1, Follows = 2;
    private static readonly byte[] s_flags = Build();

    /// <summary>Whether <paramref name="c"/> is surely a cluster of its own before <paramref name="next"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool StandsAlone(char c, char next)
    {
        byte[] flags = s_flags;
        return (flags[c] & Leads) == 0 && (flags[next] & Follows) == 0;
    }

    private static byte[] Build()
    {
        byte[] flags = new byte[0x10000];
        Span<char> pair = stackalloc char[2];
        for (int c = 0x80; c < 0x10000; c++)
        {
            if (char.IsSurrogate((char)c)) flags[c] = Leads | Follows;
            else if (c is >= 0x1100 and <= 0x115F or >= 0xA960 and <= 0xA97C) flags[c] = Leads;
            else if (c is >= 0x1160 and <= 0x11FF or >= 0xD7B0 and <= 0xD7FF) flags[c] = Follows;
            else
            {
                (pair[0], pair[1]) = ((char)c, 'a');
                if (StringInfo.GetNextTextElementLength(pair) == 2) flags[c] |= Leads;
                (pair[0], pair[1]) = ('a', (char)c);
                if (StringInfo.GetNextTextElementLength(pair) == 2) flags[c] |= Follows;
            }
        }
        flags['\r'] = Leads;
        return flags;
    }
}
