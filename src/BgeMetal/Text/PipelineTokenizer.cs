using System.Buffers;
using Microsoft.ML.Tokenizers;

namespace BgeMetal.Text;

/// <summary>The ids of a tokenizer's special tokens; -1 where there is none.</summary>
internal readonly record struct SpecialIds(int Pad, int Cls, int Sep, int Mask);

/// <summary>A <see cref="ModelTokenizer"/> made of a <see cref="TokenPipeline"/> and a template.</summary>
internal sealed class PipelineTokenizer : ModelTokenizer
{
    private const int KeptTokens = 1 << 16, MaxCharacters = 1 << 28;

    [ThreadStatic] private static TokenBuffer t_first;
    [ThreadStatic] private static TokenBuffer t_second;

    private readonly TokenPipeline _pipeline;
    private readonly PairTemplate _template;
    private readonly SpecialIds _special;
    private readonly SegmentEncoder? _fast;
    private readonly Dictionary<int, AddedToken> _addedById = [];
    private readonly Dictionary<string, AddedToken> _addedByContent = new(StringComparer.Ordinal);

    public PipelineTokenizer(TokenPipeline pipeline, PairTemplate template, SpecialIds special, IReadOnlyList<string> files)
    {
        (_pipeline, _template, _special, Files) = (pipeline, template, special, files);
        _fast = BertSegmentEncoder.Covers(pipeline) ? new BertSegmentEncoder((BertTextNormalizer)pipeline.Normalizer!, pipeline)
            : UnigramSegmentEncoder.Covers(pipeline) ? new UnigramSegmentEncoder(pipeline) : null;
        foreach (AddedToken token in pipeline.Added)
        {
            _addedById[token.Id] = token;
            _addedByContent[token.Content] = token;
        }
        VocabularySize = Math.Max(pipeline.Model.IdCount, pipeline.Added.Count == 0 ? 0 : pipeline.Added.Max(token => token.Id) + 1);
    }

    /// <inheritdoc/>
    public override int VocabularySize { get; }

    /// <inheritdoc/>
    public override int PadId => _special.Pad;

    /// <inheritdoc/>
    public override int ClsId => _special.Cls;

    /// <inheritdoc/>
    public override int SepId => _special.Sep;

    /// <inheritdoc/>
    public override int UnkId => _pipeline.Model.UnkId;

    /// <inheritdoc/>
    public override int MaskId => _special.Mask;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Files { get; }

    /// <inheritdoc/>
    public override Normalizer? Normalizer => _pipeline.Normalizer;

    /// <inheritdoc/>
    public override PreTokenizer? PreTokenizer => _pipeline.Splitter;

    /// <summary>Whether ids are made by one of the fast encoders.</summary>
    internal bool IsFast => _fast is not null;

    /// <summary>The parts.</summary>
    internal TokenPipeline Pipeline => _pipeline;

    /// <inheritdoc/>
    public override int TokenToId(string token)
    {
        ArgumentNullException.ThrowIfNull(token);
        return _addedByContent.TryGetValue(token, out AddedToken? added) ? added.Id : _pipeline.Model.Find(token);
    }

    /// <inheritdoc/>
    public override string? IdToToken(int id) => _addedById.TryGetValue(id, out AddedToken? added) ? added.Content : _pipeline.Model.Token(id);

    /// <inheritdoc/>
    public override void EncodeTo(ReadOnlySpan<char> text, int maxLength, ref TokenBuffer buffer)
    {
        int room = maxLength <= 0 ? int.MaxValue : Room(maxLength, _template.AddedToSingle);
        foreach (TemplatePart part in _template.Single)
        {
            if (part.Tokens is not null)
            {
                buffer.Add(part.Ids);
                continue;
            }
            int before = buffer.Count;
            if (room == 0) continue;
            EncodeRaw(text, ref buffer, room == int.MaxValue ? room : before + room);
            if (buffer.Count - before > room) buffer.Truncate(before + room);
        }
    }

    /// <inheritdoc/>
    public override TokenizedText Encode(string text, string? pair = null, bool addSpecialTokens = true, int? maxLength = null,
        TruncationStrategy truncation = TruncationStrategy.LongestFirst)
    {
        ArgumentNullException.ThrowIfNull(text);
        int limit = Limit(pair is not null, addSpecialTokens, maxLength, truncation);
        t_first.Clear();
        t_second.Clear();
        EncodeRaw(text, ref t_first, StopAt(limit, maxLength, truncation, second: false));
        if (pair is not null) EncodeRaw(pair, ref t_second, StopAt(limit, maxLength, truncation, second: true));
        (int first, int second) = Cut(t_first.Count, pair is null ? -1 : t_second.Count, limit, truncation);
        TokenizedText result = Dress(t_first.Ids[..first], t_second.Ids[..Math.Max(second, 0)], pair is not null, addSpecialTokens);
        if (Math.Max(t_first.Count, t_second.Count) > KeptTokens) (t_first, t_second) = (default, default);
        return result;
    }

    /// <inheritdoc/>
    public override TokenizedText EncodeWithOffsets(string text, string? pair = null, bool addSpecialTokens = true, int? maxLength = null,
        TruncationStrategy truncation = TruncationStrategy.LongestFirst)
    {
        ArgumentNullException.ThrowIfNull(text);
        int limit = Limit(pair is not null, addSpecialTokens, maxLength, truncation);
        List<AlignedToken> firstTokens = _pipeline.Tokenize(text, StopAt(limit, maxLength, truncation, second: false));
        List<AlignedToken> secondTokens = pair is null ? [] : _pipeline.Tokenize(pair, StopAt(limit, maxLength, truncation, second: true));
        (int first, int second) = Cut(firstTokens.Count, pair is null ? -1 : secondTokens.Count, limit, truncation);
        firstTokens = firstTokens[..first];
        secondTokens = secondTokens[..Math.Max(second, 0)];
        TokenizedText ids = Dress([.. firstTokens.Select(token => token.Id)], [.. secondTokens.Select(token => token.Id)], pair is not null, addSpecialTokens);
        List<string> tokens = [];
        List<(int, int)> offsets = [];
        foreach (TemplatePart part in pair is null ? _template.Single : _template.Pair)
        {
            if (part.Tokens is null)
            {
                foreach (AlignedToken token in part.Sequence == 0 ? firstTokens : secondTokens)
                {
                    tokens.Add(token.Text);
                    offsets.Add((token.Start, token.End));
                }
            }
            else if (addSpecialTokens)
            {
                tokens.AddRange(part.Tokens);
                offsets.AddRange(new (int, int)[part.Tokens.Length]);
            }
        }
        return ids with { Tokens = [.. tokens], Offsets = [.. offsets] };
    }

    /// <inheritdoc/>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed, out int charsWritten)
    {
        string text = Decode(ids);
        bool fits = text.TryCopyTo(destination);
        (idsConsumed, charsWritten) = fits ? (ids.Count(), text.Length) : (0, 0);
        return fits ? OperationStatus.Done : OperationStatus.DestinationTooSmall;
    }

    /// <summary>The text of ids, special and unknown-to-the-vocabulary ones dropped; what normalisation removed does not come back.</summary>
    public override string Decode(IEnumerable<int> ids) =>
        _pipeline.Model.Join([.. ids.Where(id => !(_addedById.TryGetValue(id, out AddedToken? added) && added.Special)).Select(IdToToken).OfType<string>()]);

    /// <inheritdoc/>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        ReadOnlySpan<char> original = text ?? textSpan;
        List<int> units = [0];
        foreach (System.Text.Rune rune in original.EnumerateRunes()) units.Add(units[^1] + rune.Utf16SequenceLength);
        List<AlignedToken> tokens = _pipeline.Tokenize(original, settings.MaxTokenCount, settings.ConsiderNormalization, settings.ConsiderPreTokenization);
        if (tokens.Count > settings.MaxTokenCount) tokens.RemoveRange(settings.MaxTokenCount, tokens.Count - settings.MaxTokenCount);
        return new EncodeResults<EncodedToken>
        {
            Tokens = tokens.ConvertAll(token => new EncodedToken(token.Id, token.Text, new Range(units[token.Start], units[token.End]))),
            CharsConsumed = tokens.Count < settings.MaxTokenCount ? original.Length : units[tokens[^1].End],
        };
    }

    private static int StopAt(int limit, int? maxLength, TruncationStrategy truncation, bool second) =>
        limit == int.MaxValue || (truncation == TruncationStrategy.OnlySecond && !second) ? int.MaxValue : maxLength!.Value;

    private static (int First, int Second) Cut(int first, int second, int limit, TruncationStrategy truncation) =>
        limit == int.MaxValue ? (first, second) : PairTruncation.Lengths(first, second, limit, truncation);

    private int Limit(bool pair, bool addSpecialTokens, int? maxLength, TruncationStrategy truncation)
    {
        if (maxLength is not { } length || truncation == TruncationStrategy.None) return int.MaxValue;
        ArgumentOutOfRangeException.ThrowIfNegative(length, nameof(maxLength));
        return addSpecialTokens ? Room(length, pair ? _template.AddedToPair : _template.AddedToSingle) : length;
    }

    private static int Room(int maxLength, int added) => maxLength >= added ? maxLength - added
        : throw new BgeMetalException("cannot cut the text to the maximum length", $"{maxLength} tokens have no room for the {added} special tokens");

    /// <summary>Appends the ids of a raw text, stopping after the piece that brings the count to <paramref name="stopAt"/>.</summary>
    private void EncodeRaw(ReadOnlySpan<char> text, ref TokenBuffer ids, int stopAt)
    {
        if (text.Length > MaxCharacters) throw new BgeMetalException("cannot tokenize a text", $"{text.Length} characters are more than the {MaxCharacters} allowed");
        if (_fast is null)
        {
            foreach (AlignedToken token in _pipeline.Tokenize(text, stopAt == int.MaxValue ? stopAt : stopAt - ids.Count)) ids.Add(token.Id);
            return;
        }
        text = WellFormedText.Of(text);
        AddedTokenMatcher matcher = _pipeline.Raw;
        int cursor = 0, from = 0;
        while (from < text.Length)
        {
            AddedToken? token = matcher.Next(text, ref cursor, from, out int start, out int end);
            if (from < start && !_fast.Encode(text[from..start], ref ids, stopAt)) return;
            if (token is not null) ids.Add(token.Id);
            from = Math.Max(end, from);
        }
    }

    private TokenizedText Dress(ReadOnlySpan<int> first, ReadOnlySpan<int> second, bool isPair, bool addSpecialTokens)
    {
        int added = addSpecialTokens ? isPair ? _template.AddedToPair : _template.AddedToSingle : 0, count = first.Length + second.Length + added, at = 0;
        int[] ids = new int[count], types = new int[count], mask = new int[count];
        foreach (TemplatePart part in isPair ? _template.Pair : _template.Single)
        {
            bool isText = part.Tokens is null;
            if (!isText && !addSpecialTokens) continue;
            ReadOnlySpan<int> source = !isText ? part.Ids : part.Sequence == 0 ? first : second;
            source.CopyTo(ids.AsSpan(at));
            types.AsSpan(at, source.Length).Fill(part.TypeId);
            mask.AsSpan(at, source.Length).Fill(isText ? 0 : 1);
            at += source.Length;
        }
        return new TokenizedText(ids, types, mask);
    }
}
