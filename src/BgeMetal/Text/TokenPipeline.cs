namespace BgeMetal.Text;

/// <summary>A piece of text for the model, or a literally matched token.</summary>
internal readonly record struct PipelinePiece(AlignedText Text, AddedToken? Added);

/// <summary>A token with its range in the original text, in code points.</summary>
internal readonly record struct AlignedToken(int Id, string Text, int Start, int End);

/// <summary>
/// The parts of a tokenizer in the order they act: tokens matched in the raw text, the normalizer, tokens matched in the normalised text, the splitter, the
/// model. Missing parts do nothing.
/// </summary>
internal sealed class TokenPipeline
{
    private readonly AddedTokenMatcher _normalized;

    public TokenPipeline(TextNormalizer? normalizer, TextSplitter? splitter, TokenModel model, IReadOnlyList<AddedToken> added)
    {
        (Normalizer, Splitter, Model, Added) = (normalizer, splitter, model, added);
        Raw = new AddedTokenMatcher(added.Where(token => !token.Normalized).Select(token => (token.Content, token)));
        _normalized = new AddedTokenMatcher(added.Where(token => token.Normalized).Select(token => (normalizer?.Normalize(token.Content) ?? token.Content, token)));
    }

    /// <summary>Cleans text up, or null.</summary>
    public TextNormalizer? Normalizer { get; }

    /// <summary>Cuts text into pieces, or null.</summary>
    public TextSplitter? Splitter { get; }

    /// <summary>Turns pieces into tokens.</summary>
    public TokenModel Model { get; }

    /// <summary>Tokens matched literally.</summary>
    public IReadOnlyList<AddedToken> Added { get; }

    /// <summary>Finds those that are matched in the raw text.</summary>
    public AddedTokenMatcher Raw { get; }

    /// <summary>Finds those that are matched in the normalised text.</summary>
    public AddedTokenMatcher Normalized => _normalized;

    /// <summary>All tokens of <paramref name="text"/> with their ranges, up to the piece that reaches <paramref name="stopAt"/> tokens.</summary>
    /// <param name="text">The raw text.</param>
    /// <param name="stopAt">The number of tokens from which on no further piece is tokenized.</param>
    /// <param name="normalize">Whether the normalizer takes part.</param>
    /// <param name="split">Whether the splitter takes part.</param>
    public List<AlignedToken> Tokenize(ReadOnlySpan<char> text, int stopAt = int.MaxValue, bool normalize = true, bool split = true)
    {
        List<AlignedToken> tokens = [];
        TokenBuffer ids = new(64);
        List<int> ends = [];
        foreach (PipelinePiece part in Match(new AlignedText(text), Raw))
        {
            foreach (PipelinePiece piece in part.Added is null ? Cut(part.Text, normalize, split) : [part])
            {
                if (piece.Added is { } added)
                {
                    (int start, int end) = piece.Text.Origin(0, piece.Text.Length);
                    tokens.Add(new AlignedToken(added.Id, piece.Text.ToString(), start, end));
                    continue;
                }
                AddModelTokens(piece.Text, tokens, ref ids, ends);
                if (tokens.Count >= stopAt) return tokens;
            }
        }
        return tokens;
    }

    /// <summary>The pieces of a text in which no raw token occurs, in order, without empty ones.</summary>
    public List<PipelinePiece> Cut(AlignedText text, bool normalize = true, bool split = true)
    {
        if (normalize) Normalizer?.Apply(text);
        List<PipelinePiece> pieces = [];
        List<AlignedText> cut = [];
        foreach (PipelinePiece part in Match(text, _normalized))
        {
            if (part.Added is not null || Splitter is null || !split)
            {
                pieces.Add(part);
                continue;
            }
            cut.Clear();
            Splitter.Split(part.Text, cut);
            foreach (AlignedText piece in cut) pieces.Add(new PipelinePiece(piece, null));
        }
        return pieces;
    }

    private void AddModelTokens(AlignedText piece, List<AlignedToken> tokens, ref TokenBuffer ids, List<int> ends)
    {
        ids.Clear();
        ends.Clear();
        string units = piece.ToString();
        Model.Encode(units, ref ids, ends);
        int unit = 0, codePoint = 0;
        for (int i = 0; i < ids.Count; i++)
        {
            int startUnit = unit, start = codePoint;
            for (; unit < ends[i]; codePoint++) unit += char.IsHighSurrogate(units[unit]) ? 2 : 1;
            (int first, int last) = piece.Origin(start, codePoint);
            tokens.Add(new AlignedToken(ids.Ids[i], Model.Display(ids.Ids[i], units[startUnit..unit]), first, last));
        }
    }

    private static List<PipelinePiece> Match(AlignedText text, AddedTokenMatcher matcher)
    {
        if (text.Length == 0) return [];
        if (matcher.IsEmpty) return [new PipelinePiece(text, null)];
        string units = text.ToString();
        List<int> codePoints = new(units.Length + 1);
        for (int i = 0, count = 0; i <= units.Length; i++) codePoints.Add(i < units.Length && char.IsLowSurrogate(units[i]) ? count : count++);
        List<PipelinePiece> pieces = [];
        int cursor = 0, from = 0;
        while (matcher.Next(units, ref cursor, from, out int start, out int end) is { } token)
        {
            if (from < start) pieces.Add(new PipelinePiece(text.Slice(codePoints[from], codePoints[start]), null));
            pieces.Add(new PipelinePiece(text.Slice(codePoints[start], codePoints[end]), token));
            from = end;
        }
        if (from < units.Length) pieces.Add(new PipelinePiece(text.Slice(codePoints[from], codePoints[units.Length]), null));
        return pieces;
    }
}
