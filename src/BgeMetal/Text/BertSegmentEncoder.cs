using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// BERT's cleaning, splitting and WordPiece in two passes over a buffer: what each character of the basic plane becomes is tabled at load, so is whether the
/// result splits words. The few texts whose combining marks would have to be reordered go through the general pipeline.
/// </summary>
internal sealed class BertSegmentEncoder : SegmentEncoder
{
    private const int Drop = -1, General = -2, Pair = -3, FirstExpansion = -4, Isolated = 0x10000;
    private const byte Word = 0, Space = 1, Punctuation = 2, Surrogate = 3;

    private readonly int[] _codes = new int[0x10000];
    private readonly byte[] _classes = new byte[0x10000];
    private readonly int[] _singleIds = new int[0x10000];
    private readonly List<string> _expansions = [];
    private readonly BertTextNormalizer _normalizer;
    private readonly TokenModel _model;
    private readonly AddedTokenMatcher _added;
    private readonly PipelineSegmentEncoder _general;

    public BertSegmentEncoder(BertTextNormalizer normalizer, TokenPipeline pipeline)
    {
        (_normalizer, _model, _added, _general) = (normalizer, pipeline.Model, pipeline.Normalized, new PipelineSegmentEncoder(pipeline));
        TokenBuffer ids = new(4);
        Span<char> unit = stackalloc char[1];
        for (int c = 0; c < 0x10000; c++)
        {
            if (char.IsSurrogate((char)c))
            {
                (_codes[c], _classes[c]) = (Pair, Surrogate);
                continue;
            }
            _codes[c] = Code((char)c);
            _classes[c] = UnicodeTables.IsWhiteSpace(c) ? Space : UnicodeTables.IsPunctuation(c) ? Punctuation : Word;
            unit[0] = (char)c;
            ids.Clear();
            _model.Encode(unit, ref ids, null);
            _singleIds[c] = ids.Ids[0];
        }
    }

    /// <summary>Whether this encoder covers a combination of parts.</summary>
    public static bool Covers(TokenPipeline pipeline) => pipeline is { Normalizer: BertTextNormalizer, Splitter: BertSplitter, Model: WordPieceModel };

    /// <inheritdoc/>
    public override bool Encode(ReadOnlySpan<char> segment, ref TokenBuffer ids, int stopAt)
    {
        while (!segment.IsEmpty)
        {
            ReadOnlySpan<char> chunk = _added.IsEmpty ? segment[..ChunkLength(segment)] : segment;
            segment = segment[chunk.Length..];
            char[] buffer = Scratch(4 * chunk.Length + 16);
            int length = Normalize(chunk, buffer);
            if (length < 0 ? !_general.Encode(chunk, ref ids, stopAt) : !EncodeNormalized(buffer.AsSpan(0, length), ref ids, stopAt)) return false;
        }
        return true;
    }

    private bool EncodeNormalized(ReadOnlySpan<char> text, ref TokenBuffer ids, int stopAt)
    {
        if (_added.IsEmpty) return Split(text, ref ids, stopAt);
        int cursor = 0, from = 0;
        while (_added.Next(text, ref cursor, from, out int start, out int end) is { } token)
        {
            if (from < start && !Split(text[from..start], ref ids, stopAt)) return false;
            ids.Add(token.Id);
            from = end;
        }
        return from >= text.Length || Split(text[from..], ref ids, stopAt);
    }

    private bool Split(ReadOnlySpan<char> text, ref TokenBuffer ids, int stopAt)
    {
        byte[] classes = _classes;
        int i = 0;
        while (i < text.Length)
        {
            int start = i;
            byte kind = classes[text[i++]];
            if (kind == Space) continue;
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
            if (i - start == 1) ids.Add(_singleIds[text[start]]);
            else _model.Encode(text[start..i], ref ids, null);
            if (ids.Count >= stopAt) return false;
        }
        return true;
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

    /// <summary>Writes the normalised text (at most four units for one) and returns its length, or -1 if the general pipeline is needed.</summary>
    private int Normalize(ReadOnlySpan<char> text, char[] buffer)
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
            else if (code == General) return -1;
            else if (code == Pair)
            {
                Rune.DecodeFromUtf16(text[i..], out Rune rune, out int width);
                i += width - 1;
                if (Expand(rune.Value) is not { } expansion) return -1;
                expansion.CopyTo(0, buffer, length, expansion.Length);
                length += expansion.Length;
            }
            else if (code <= FirstExpansion)
            {
                string expansion = _expansions[FirstExpansion - code];
                expansion.CopyTo(0, buffer, length, expansion.Length);
                length += expansion.Length;
            }
        }
        return length;
    }

    private int Code(char c)
    {
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
