using System.Text;
using Microsoft.ML.Tokenizers;

namespace BgeMetal.Text;

/// <summary>A <see cref="PreTokenizer"/> that cuts normalised text into the pieces a model sees, keeping track of where they came from.</summary>
internal abstract class TextSplitter : PreTokenizer
{
    /// <summary>Appends the pieces of <paramref name="text"/>, which it may change, in order and without empty ones.</summary>
    public abstract void Split(AlignedText text, List<AlignedText> pieces);

    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(string text) => PreTokenize(text.AsSpan());

    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text)
    {
        List<int> units = [0];
        foreach (Rune rune in text.EnumerateRunes()) units.Add(units[^1] + rune.Utf16SequenceLength);
        List<AlignedText> pieces = [];
        Split(new AlignedText(text), pieces);
        return pieces.ConvertAll(piece =>
        {
            (int start, int end) = piece.Origin(0, piece.Length);
            return (units[start], units[end] - units[start]);
        });
    }

    /// <summary>Cuts at every code point that <paramref name="isBoundary"/> names; it is dropped, or kept as a piece of its own.</summary>
    protected static void Cut(AlignedText text, Func<int, bool> isBoundary, bool keep, List<AlignedText> pieces)
    {
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && !isBoundary(text.CodePoints[i])) continue;
            if (start < i) pieces.Add(text.Slice(start, i));
            if (keep && i < text.Length) pieces.Add(text.Slice(i, i + 1));
            start = i + 1;
        }
    }
}

/// <summary>Words and single punctuation characters (the BertPreTokenizer).</summary>
internal sealed class BertSplitter : TextSplitter
{
    /// <inheritdoc/>
    public override void Split(AlignedText text, List<AlignedText> pieces)
    {
        List<AlignedText> words = [];
        Cut(text, UnicodeTables.IsWhiteSpace, keep: false, words);
        foreach (AlignedText word in words) Cut(word, UnicodeTables.IsPunctuation, keep: true, pieces);
    }
}

/// <summary>Words between white space.</summary>
internal sealed class WhitespaceSplitter : TextSplitter
{
    /// <inheritdoc/>
    public override void Split(AlignedText text, List<AlignedText> pieces) => Cut(text, UnicodeTables.IsWhiteSpace, keep: false, pieces);
}

/// <summary>Several splitters, each cutting the pieces of the one before.</summary>
internal sealed class SequenceSplitter(IReadOnlyList<TextSplitter> parts) : TextSplitter
{
    /// <summary>The parts in order.</summary>
    public IReadOnlyList<TextSplitter> Parts { get; } = parts;

    /// <inheritdoc/>
    public override void Split(AlignedText text, List<AlignedText> pieces)
    {
        List<AlignedText> current = [text];
        foreach (TextSplitter part in Parts)
        {
            List<AlignedText> next = [];
            foreach (AlignedText piece in current) part.Split(piece, next);
            current = next;
        }
        pieces.AddRange(current);
    }
}

/// <summary>When the Metaspace mark is put before a piece that does not start with it.</summary>
internal enum PrependScheme
{
    /// <summary>Before every piece.</summary>
    Always,

    /// <summary>Before the piece at the beginning of the text.</summary>
    First,

    /// <summary>Never.</summary>
    Never,
}

/// <summary>SentencePiece's view of blanks: each becomes a visible mark, and pieces start at marks.</summary>
internal sealed class MetaspaceSplitter(char mark, PrependScheme scheme, bool split) : TextSplitter
{
    /// <summary>The mark, as a rule U+2581.</summary>
    public char Mark { get; } = mark;

    /// <summary>When it is put before a piece.</summary>
    public PrependScheme Scheme { get; } = scheme;

    /// <summary>Whether pieces are cut before each mark.</summary>
    public bool Splits { get; } = split;

    /// <inheritdoc/>
    public override void Split(AlignedText text, List<AlignedText> pieces)
    {
        text.Map(c => c == ' ' ? Mark : c);
        if (text.Length > 0 && text.CodePoints[0] != Mark && (Scheme == PrependScheme.Always || (Scheme == PrependScheme.First && text.OriginalStart == 0)))
            text.Prepend(Mark);
        int start = 0;
        for (int i = 1; i <= text.Length; i++)
        {
            if (i < text.Length && (!Splits || text.CodePoints[i] != Mark)) continue;
            pieces.Add(text.Slice(start, i));
            start = i;
        }
    }
}
