using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// BERT's cleaning and word splitting in two passes over a buffer: what each character of the basic plane becomes is tabled at load, so is whether the
/// result splits words. The few texts whose combining marks would have to be reordered are left to the general pipeline. Thread-safe.
/// </summary>
internal sealed class BertWordScanner
{
    /// <summary>The most units that one unit of text can become.</summary>
    public const int MaxExpansion = 4;

    private const int Drop = -1, General = -2, Pair = -3, FirstExpansion = -4, Isolated = 0x10000;
    private const byte Word = 0, Space = 1, Punctuation = 2, Surrogate = 3;
    private static readonly byte[] s_classes = BuildClasses();

    private readonly int[] _codes = new int[0x10000];
    private readonly List<string> _expansions = [];
    private readonly BertTextNormalizer _normalizer;

    public BertWordScanner(BertTextNormalizer normalizer)
    {
        _normalizer = normalizer;
        for (int c = 0; c < 0x10000; c++) _codes[c] = char.IsSurrogate((char)c) ? Pair : Code((char)c);
    }

    /// <summary>
    /// Writes the normalised text (at most <see cref="MaxExpansion"/> units for one) and returns its length, or -1 if the general pipeline is needed.
    /// </summary>
    public int Normalize(ReadOnlySpan<char> text, Span<char> buffer)
    {
        int[] codes = _codes;
        int length = 0;
        for (int i = 0; i < text.Length; i++)
        {
            int code = codes[text[i]];
            if ((uint)code < Isolated) buffer[length++] = (char)code;
            else if (code >= Isolated)
            {
                buffer[length] = ' ';
                buffer[length + 1] = (char)code;
                buffer[length + 2] = ' ';
                length += 3;
            }
            else if (code == Pair)
            {
                Rune.DecodeFromUtf16(text[i..], out Rune rune, out int width);
                if (!TryAppendPair(rune, buffer, ref length)) return -1;
                i += width - 1;
            }
            else if (code != Drop)
            {
                if (code == General) return -1;
                string expansion = _expansions[FirstExpansion - code];
                expansion.CopyTo(buffer[length..]);
                length += expansion.Length;
            }
        }
        return length;
    }

    /// <summary>
    /// Finds the next word or single punctuation character of a normalised text from <paramref name="position"/> on: it lies from
    /// <paramref name="start"/> to the new position.
    /// </summary>
    /// <returns>False at the end of the text.</returns>
    public static bool Next(ReadOnlySpan<char> text, ref int position, out int start)
    {
        byte[] classes = s_classes;
        int i = position;
        while (i < text.Length && classes[text[i]] == Space) i++;
        start = i;
        if (i == text.Length) return false;
        byte kind = classes[text[i++]];
        if (kind == Surrogate) kind = PairClass(text[start..], ref i);
        if (kind == Word)
        {
            while (i < text.Length)
            {
                byte next = classes[text[i]];
                if (next == Word) i++;
                else if (next != Surrogate || !TryTakeWordPair(text, ref i)) break;
            }
        }
        position = i;
        return true;
    }

    private static byte[] BuildClasses()
    {
        byte[] classes = new byte[0x10000];
        for (int c = 0; c < classes.Length; c++)
            classes[c] = char.IsSurrogate((char)c) ? Surrogate : UnicodeTables.IsWhiteSpace(c) ? Space : UnicodeTables.IsPunctuation(c) ? Punctuation : Word;
        return classes;
    }

    private static byte PairClass(ReadOnlySpan<char> text, ref int i)
    {
        Rune.DecodeFromUtf16(text, out Rune rune, out int length);
        i += length - 1;
        return UnicodeTables.IsPunctuation(rune.Value) ? Punctuation : Word;
    }

    private static bool TryTakeWordPair(ReadOnlySpan<char> text, ref int i)
    {
        Rune.DecodeFromUtf16(text[i..], out Rune rune, out int length);
        if (UnicodeTables.IsPunctuation(rune.Value)) return false;
        i += length;
        return true;
    }

    private bool TryAppendPair(Rune rune, Span<char> buffer, ref int length)
    {
        if (IsPlain(rune.Value))
        {
            bool isolate = _normalizer.Options.HandleChineseChars && UnicodeTables.IsChinese(rune.Value);
            if (isolate) buffer[length++] = ' ';
            length += rune.EncodeToUtf16(buffer[length..]);
            if (isolate) buffer[length++] = ' ';
            return true;
        }
        if (Expand(rune.Value) is not { } expansion) return false;
        expansion.CopyTo(buffer[length..]);
        length += expansion.Length;
        return true;
    }

    private int Code(char c)
    {
        if (c >= 0x80 && IsPlain(c)) return UnicodeTables.IsChinese(c) && _normalizer.Options.HandleChineseChars ? Isolated | c : c;
        string? expansion = Expand(c);
        switch (expansion)
        {
            case null: return General;
            case "": return Drop;
            case { Length: 1 }: return expansion[0];
            case { Length: 3 } when expansion[0] == ' ' && expansion[2] == ' ': return Isolated | expansion[1];
            default:
                _expansions.Add(expansion);
                return FirstExpansion - (_expansions.Count - 1);
        }
    }

    /// <summary>Whether no rule but isolation touches the character.</summary>
    private static bool IsPlain(int c)
    {
        if (BertTextNormalizer.IsDropped(c) || UnicodeTables.IsWhiteSpace(c) || UnicodeTables.IsNonSpacingMark(c) || UnicodeTables.CombiningClass(c) != 0
            || UnicodeTables.Decomposes(c)) return false;
        return c != 0x130 && Rune.ToLowerInvariant(new Rune(c)).Value == c;
    }

    /// <summary>What one code point becomes; null where its place among other marks matters.</summary>
    private string? Expand(int codePoint)
    {
        AlignedText text = new(new Rune(codePoint).ToString());
        _normalizer.Apply(text);
        if (_normalizer.Options.Strips)
            foreach (int result in text.CodePoints)
                if (UnicodeTables.CombiningClass(result) != 0) return null;
        return text.ToString();
    }
}
