using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// SentencePiece-style normalisation, splitting at blanks and the unigram model, over one buffer: characters that stand alone in their grapheme cluster are
/// replaced by a table made at load, longer clusters by a look-up; pieces are then marked in place.
/// </summary>
internal sealed class UnigramSegmentEncoder : SegmentEncoder
{
    private const int Drop = -1, Pair = -2, FirstExpansion = -3;
    private const string Runs = " {2,}";

    private readonly int[] _codes = new int[0x10000];
    private readonly List<string> _expansions = [];
    private readonly CharacterMap _map;
    private readonly IReadOnlyList<TextNormalizer> _after;
    private readonly bool _splitsWords, _chunks;
    private readonly char _mark;
    private readonly TokenModel _model;
    private readonly AddedTokenMatcher _added;

    public UnigramSegmentEncoder(TokenPipeline pipeline)
    {
        (_model, _added) = (pipeline.Model, pipeline.Normalized);
        IReadOnlyList<TextNormalizer> normalizers = Parts(pipeline.Normalizer);
        _map = ((CharacterMapNormalizer)normalizers[0]).Map;
        _after = [.. normalizers.Skip(1)];
        _splitsWords = pipeline.Splitter is SequenceSplitter;
        _mark = (pipeline.Splitter as MetaspaceSplitter ?? (MetaspaceSplitter)((SequenceSplitter)pipeline.Splitter!).Parts[1]).Mark;
        _chunks = _added.IsEmpty && !_after.Any(part => part is StripNormalizer);
        for (int c = 0; c < 0x10000; c++) _codes[c] = char.IsSurrogate((char)c) ? Pair : Code((char)c, _map[(char)c]);
    }

    /// <summary>Whether this encoder covers a combination of parts.</summary>
    public static bool Covers(TokenPipeline pipeline)
    {
        IReadOnlyList<TextNormalizer> normalizers = Parts(pipeline.Normalizer);
        return pipeline.Model is UnigramModel && normalizers is [CharacterMapNormalizer, ..]
            && normalizers.Skip(1).All(part => part is StripNormalizer or ReplaceNormalizer { Pattern: Runs, Content.Length: 1 })
            && (pipeline.Splitter is MetaspaceSplitter { Scheme: PrependScheme.Always, Splits: true }
                or SequenceSplitter { Parts: [WhitespaceSplitter, MetaspaceSplitter { Scheme: PrependScheme.Always, Splits: true }] });
    }

    /// <inheritdoc/>
    public override bool Encode(ReadOnlySpan<char> segment, ref TokenBuffer ids, int stopAt)
    {
        while (!segment.IsEmpty)
        {
            ReadOnlySpan<char> chunk = _chunks ? segment[..ChunkLength(segment)] : segment;
            segment = segment[chunk.Length..];
            char[] buffer = Scratch(2 * chunk.Length + 16);
            int end = Normalize(chunk, ref buffer), start = 1;
            foreach (TextNormalizer part in _after) Apply(part, buffer, ref start, ref end);
            if (!EncodeNormalized(buffer, start, end, ref ids, stopAt)) return false;
        }
        return true;
    }

    private static IReadOnlyList<TextNormalizer> Parts(TextNormalizer? normalizer) =>
        normalizer switch { null => [], SequenceNormalizer sequence => [.. sequence.Parts.SelectMany(Parts)], _ => [normalizer] };

    private bool EncodeNormalized(char[] buffer, int start, int end, ref TokenBuffer ids, int stopAt)
    {
        if (_added.IsEmpty) return Split(buffer, start, end, ref ids, stopAt);
        ReadOnlySpan<char> text = buffer.AsSpan(start, end - start);
        int cursor = 0, from = 0;
        while (_added.Next(text, ref cursor, from, out int first, out int last) is { } token)
        {
            if (from < first && !Split(buffer, start + from, start + first, ref ids, stopAt)) return false;
            ids.Add(token.Id);
            from = last;
        }
        return from >= text.Length || Split(buffer, start + from, end, ref ids, stopAt);
    }

    /// <summary>Encodes <paramref name="start"/>..<paramref name="end"/> of the buffer; the unit before the start is overwritten.</summary>
    private bool Split(char[] buffer, int start, int end, ref TokenBuffer ids, int stopAt)
    {
        if (!_splitsWords)
        {
            buffer.AsSpan(start, end - start).Replace(' ', _mark);
            return EncodeWord(buffer, start, end, ref ids, stopAt);
        }
        int i = start;
        while (true)
        {
            while (i < end && IsWhiteSpace(buffer[i])) i++;
            if (i == end) return true;
            int word = i++;
            while (i < end && !IsWhiteSpace(buffer[i])) i++;
            if (!EncodeWord(buffer, word, i, ref ids, stopAt)) return false;
        }
    }

    private static bool IsWhiteSpace(char c) => c == ' ' || (c is < '!' or > '~' && char.IsWhiteSpace(c));

    private bool EncodeWord(char[] buffer, int start, int end, ref TokenBuffer ids, int stopAt)
    {
        if (start == end) return true;
        if (buffer[start] != _mark) buffer[--start] = _mark;
        while (start < end)
        {
            int next = buffer.AsSpan(start + 1, end - start - 1).IndexOf(_mark);
            int pieceEnd = next < 0 ? end : start + 1 + next;
            _model.Encode(buffer.AsSpan(start, pieceEnd - start), ref ids, null);
            if (ids.Count >= stopAt) return false;
            start = pieceEnd;
        }
        return true;
    }

    /// <summary>Writes the text after the character map from position 1 on and returns where it ends.</summary>
    private int Normalize(ReadOnlySpan<char> text, ref char[] buffer)
    {
        int[] codes = _codes;
        int length = 1;
        for (int i = 0; i < text.Length;)
        {
            char c = text[i];
            if (GraphemeTable.StandsAlone(c, i + 1 < text.Length ? text[i + 1] : 'a'))
            {
                int code = codes[c];
                i++;
                if (code >= 0) buffer[length++] = (char)code;
                else if (code != Drop) Append(_expansions[FirstExpansion - code], text.Length - i, ref buffer, ref length);
                continue;
            }
            ReadOnlySpan<char> cluster = text.Slice(i, CharacterMap.ClusterLength(text[i..]));
            i += cluster.Length;
            if (CharacterMap.IsLookedUpWhole(cluster) && _map.Find(cluster) is { } whole) Append(whole, text.Length - i, ref buffer, ref length);
            else AppendCharacters(cluster, text.Length - i, ref buffer, ref length);
        }
        return length;
    }

    private void AppendCharacters(ReadOnlySpan<char> cluster, int rest, ref char[] buffer, ref int length)
    {
        while (!cluster.IsEmpty)
        {
            Rune.DecodeFromUtf16(cluster, out _, out int width);
            ReadOnlySpan<char> character = cluster[..width];
            cluster = cluster[width..];
            string? replacement = width == 1 ? _map[character[0]] : _map.Find(character);
            Append(replacement is null ? character : replacement, cluster.Length + rest, ref buffer, ref length);
        }
    }

    /// <summary>Appends and keeps room for <paramref name="rest"/> more units.</summary>
    private static void Append(ReadOnlySpan<char> units, int rest, ref char[] buffer, ref int length)
    {
        if (buffer.Length - length < units.Length + rest) Array.Resize(ref buffer, checked(2 * (length + units.Length + rest)));
        units.CopyTo(buffer.AsSpan(length));
        length += units.Length;
    }

    private static void Apply(TextNormalizer part, char[] buffer, ref int start, ref int end)
    {
        if (part is StripNormalizer strip)
        {
            while (strip.Right && end > start && char.IsWhiteSpace(buffer[end - 1])) end--;
            while (strip.Left && start < end && char.IsWhiteSpace(buffer[start])) start++;
            return;
        }
        char content = ((ReplaceNormalizer)part).Content[0];
        int kept = start;
        for (int i = start; i < end;)
        {
            int run = i;
            while (i < end && buffer[i] == ' ') i++;
            if (i - run > 1) buffer[kept++] = content;
            else buffer[kept++] = buffer[run];
            if (i == run) i++;
        }
        end = kept;
    }

    private int Code(char c, string? replacement)
    {
        if (replacement is null) return c;
        if (replacement.Length <= 1) return replacement.Length == 0 ? Drop : replacement[0];
        _expansions.Add(replacement);
        return FirstExpansion - (_expansions.Count - 1);
    }
}
