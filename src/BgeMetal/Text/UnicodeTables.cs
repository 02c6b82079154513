using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// Character properties as the reference tokenizers have them: frozen at Unicode 9 (see unicode9.txt), independent of the machine's ICU and of
/// invariant globalization, where the runtime normalises nothing. Lower-casing is the runtime's simple mapping plus the one full mapping that is
/// longer than a character.
/// </summary>
internal static class UnicodeTables
{
    private const int HangulBase = 0xAC00, HangulCount = 11172;
    private static readonly byte[] s_flags = new byte[0x110000];
    private static readonly byte[] s_class = new byte[0x20000];
    private static readonly Dictionary<int, int[]> s_decompositions = [];

    [Flags]
    private enum Property : byte { Punctuation = 1, NonSpacing = 2, Other = 4, Chinese = 8, WhiteSpace = 16 }

    static UnicodeTables()
    {
        using Stream stream = typeof(UnicodeTables).Assembly.GetManifestResourceStream("unicode9.txt")!;
        using StreamReader reader = new(stream, Encoding.UTF8);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#')) continue;
            string[] words = line.Split(' ');
            switch (words[0])
            {
                case "punctuation": Mark(words, 1, Property.Punctuation); break;
                case "nonspacing": Mark(words, 1, Property.NonSpacing); break;
                case "other": Mark(words, 1, Property.Other); break;
                case "class": AddClass(words); break;
                default: AddDecompositions(words); break;
            }
        }
        foreach ((int first, int last) in ((int, int)[])[(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
            (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)])
            for (int c = first; c <= last; c++) s_flags[c] |= (byte)Property.Chinese;
        for (int c = 0; c < 0x10000; c++)
            if (char.IsWhiteSpace((char)c)) s_flags[c] |= (byte)Property.WhiteSpace;
        for (int c = '!'; c <= '~'; c++)
            if (!char.IsAsciiLetterOrDigit((char)c)) s_flags[c] |= (byte)Property.Punctuation;
    }

    /// <summary>General category P*, or an ASCII character that is neither letter nor digit nor space nor control.</summary>
    public static bool IsPunctuation(int codePoint) => Has(codePoint, Property.Punctuation);

    /// <summary>General category Mn.</summary>
    public static bool IsNonSpacingMark(int codePoint) => Has(codePoint, Property.NonSpacing);

    /// <summary>Control, format and (first and last) private-use characters, without tab, line feed and carriage return.</summary>
    public static bool IsControl(int codePoint) => Has(codePoint, Property.Other) && codePoint is not ('\t' or '\n' or '\r');

    /// <summary>The ideographs BERT isolates: the CJK blocks of the original implementation.</summary>
    public static bool IsChinese(int codePoint) => Has(codePoint, Property.Chinese);

    /// <summary>Unicode's White_Space.</summary>
    public static bool IsWhiteSpace(int codePoint) => Has(codePoint, Property.WhiteSpace);

    /// <summary>The canonical combining class.</summary>
    public static int CombiningClass(int codePoint) => (uint)codePoint < (uint)s_class.Length ? s_class[codePoint] : 0;

    /// <summary>Appends the full canonical decomposition, the code point itself where it has none.</summary>
    public static void Decompose(int codePoint, List<int> destination)
    {
        int syllable = codePoint - HangulBase;
        if ((uint)syllable < HangulCount)
        {
            destination.Add(0x1100 + syllable / 588);
            destination.Add(0x1161 + syllable % 588 / 28);
            if (syllable % 28 != 0) destination.Add(0x11A7 + syllable % 28);
        }
        else if (codePoint >= 0xC0 && s_decompositions.TryGetValue(codePoint, out int[]? parts)) destination.AddRange(parts);
        else destination.Add(codePoint);
    }

    /// <summary>Whether a code point has a canonical decomposition.</summary>
    public static bool Decomposes(int codePoint) => (uint)(codePoint - HangulBase) < HangulCount || s_decompositions.ContainsKey(codePoint);

    /// <summary>Appends the lower-case form: one code point, two for U+0130.</summary>
    public static void Lower(int codePoint, List<int> destination)
    {
        if (codePoint == 0x130)
        {
            destination.Add('i');
            destination.Add(0x307);
        }
        else destination.Add(Rune.IsValid(codePoint) ? Rune.ToLowerInvariant(new Rune(codePoint)).Value : codePoint);
    }

    /// <summary>A word character of regular expressions (UTS #18): alphabetic, mark, decimal digit, connector or joiner.</summary>
    public static bool IsWord(int codePoint) => codePoint is 0x200C or 0x200D or (>= 0x24B6 and <= 0x24E9) or (>= 0x1F130 and <= 0x1F189)
        || CharUnicodeInfo.GetUnicodeCategory(codePoint) is <= UnicodeCategory.LetterNumber or UnicodeCategory.ConnectorPunctuation;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Has(int codePoint, Property property) =>
        (uint)codePoint < (uint)s_flags.Length && (s_flags[codePoint] & (byte)property) != 0;

    private static void Mark(string[] words, int from, Property property)
    {
        foreach ((int first, int last) in Ranges(words, from))
            for (int c = first; c <= last; c++) s_flags[c] |= (byte)property;
    }

    private static void AddClass(string[] words)
    {
        byte value = byte.Parse(words[1], CultureInfo.InvariantCulture);
        foreach ((int first, int last) in Ranges(words, 2)) s_class.AsSpan(first, last - first + 1).Fill(value);
    }

    private static void AddDecompositions(string[] words)
    {
        foreach (string word in words.AsSpan(1))
        {
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            s_decompositions.Add(Hex(word.AsSpan(0, equals)), Array.ConvertAll(word[(equals + 1)..].Split('+'), part => Hex(part)));
        }
    }

    private static IEnumerable<(int First, int Last)> Ranges(string[] words, int from)
    {
        for (int i = from; i < words.Length; i++)
        {
            int dash = words[i].IndexOf('-', StringComparison.Ordinal);
            yield return dash < 0 ? (Hex(words[i]), Hex(words[i])) : (Hex(words[i].AsSpan(0, dash)), Hex(words[i].AsSpan(dash + 1)));
        }
    }

    private static int Hex(ReadOnlySpan<char> digits) => int.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
