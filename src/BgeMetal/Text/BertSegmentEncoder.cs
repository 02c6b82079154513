namespace BgeMetal.Text;

/// <summary>BERT's cleaning, splitting and WordPiece: the scanner's buffer, then one trie walk a word; words of one unit are tabled.</summary>
internal sealed class BertSegmentEncoder : SegmentEncoder
{
    private readonly int[] _singleIds = new int[0x10000];
    private readonly BertWordScanner _scanner;
    private readonly TokenModel _model;
    private readonly AddedTokenMatcher _added;
    private readonly PipelineSegmentEncoder _general;

    public BertSegmentEncoder(BertTextNormalizer normalizer, TokenPipeline pipeline)
    {
        (_scanner, _model, _added, _general) = (new BertWordScanner(normalizer), pipeline.Model, pipeline.Normalized, new PipelineSegmentEncoder(pipeline));
        TokenBuffer ids = new(4);
        Span<char> unit = stackalloc char[1];
        for (int c = 0; c < 0x10000; c++)
        {
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
            char[] buffer = Scratch(BertWordScanner.MaxExpansion * chunk.Length + 16);
            int length = _scanner.Normalize(chunk, buffer);
            if (length < 0 ? !_general.Encode(chunk, ref ids, stopAt) : !EncodeNormalized(buffer.AsSpan(0, length), ref ids, stopAt)) return false;
        }
        return true;
    }

    private bool EncodeNormalized(ReadOnlySpan<char> text, ref TokenBuffer ids, int stopAt)
    {
        if (_added.IsEmpty) return EncodeWords(text, ref ids, stopAt);
        int cursor = 0, from = 0;
        while (_added.Next(text, ref cursor, from, out int start, out int end) is { } token)
        {
            if (from < start && !EncodeWords(text[from..start], ref ids, stopAt)) return false;
            ids.Add(token.Id);
            from = end;
        }
        return from >= text.Length || EncodeWords(text[from..], ref ids, stopAt);
    }

    private bool EncodeWords(ReadOnlySpan<char> text, ref TokenBuffer ids, int stopAt)
    {
        int position = 0;
        while (BertWordScanner.Next(text, ref position, out int start))
        {
            if (position - start == 1) ids.Add(_singleIds[text[start]]);
            else _model.Encode(text[start..position], ref ids, null);
            if (ids.Count >= stopAt) return false;
        }
        return true;
    }
}
