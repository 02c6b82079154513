using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// Byte-pair encoding over word counts. Each pair of neighbours has its exact count and the words it was seen in; a heap yields the most frequent pair, its
/// entries put right when they turn out to be stale; a merge only touches the words of its pair.
/// </summary>
internal sealed class PairMerger
{
    private const string Prefix = "##";

    private readonly int _size, _minFrequency;
    private readonly List<string> _tokens;
    private readonly Dictionary<string, int> _ids = new(StringComparer.Ordinal);
    private readonly List<int[]> _words = [];
    private readonly List<long> _counts = [];
    private readonly Dictionary<ulong, long> _pairCounts = [];
    private readonly Dictionary<ulong, List<int>> _pairWords = [];
    private readonly PriorityQueue<ulong, (long, ulong)> _heap = new();
    private readonly HashSet<ulong> _grown = [];

    /// <param name="words">How often each word occurs.</param>
    /// <param name="special">Tokens that come first.</param>
    /// <param name="size">The largest number of entries.</param>
    /// <param name="minFrequency">What is seen less often gets no entry.</param>
    public PairMerger(IReadOnlyDictionary<string, long> words, IReadOnlyList<string> special, int size, int minFrequency)
    {
        (_size, _minFrequency, _tokens) = (size, minFrequency, [.. special]);
        for (int i = 0; i < special.Count; i++) _ids.Add(special[i], i);
        KeyValuePair<string, long>[] sorted = [.. words.OrderBy(pair => pair.Key, StringComparer.Ordinal)];
        AddCharacters(sorted);
        foreach ((string word, long count) in sorted) AddWord(word, count);
    }

    /// <summary>Merges until the vocabulary is full or no pair is frequent enough, and returns it.</summary>
    public IReadOnlyList<string> Run()
    {
        foreach ((ulong pair, long count) in _pairCounts) _heap.Enqueue(pair, (-count, pair));
        while (_tokens.Count < _size && _heap.TryDequeue(out ulong pair, out (long Count, ulong) priority))
        {
            long count = _pairCounts.GetValueOrDefault(pair);
            if (count != -priority.Count)
            {
                if (count >= _minFrequency && count < -priority.Count) _heap.Enqueue(pair, (-count, pair));
                continue;
            }
            if (count < _minFrequency) break;
            Merge(pair);
        }
        return _tokens;
    }

    /// <summary>Gives entries to the frequent characters, the most frequent first as long as there is room, then orders them by code point.</summary>
    private void AddCharacters(KeyValuePair<string, long>[] words)
    {
        Dictionary<string, long> frequency = new(StringComparer.Ordinal);
        foreach ((string word, long count) in words)
        {
            bool first = true;
            foreach (Rune rune in word.EnumerateRunes())
            {
                string character = rune.ToString();
                CollectionsMarshal.GetValueRefOrAddDefault(frequency, character, out _) += first ? count : 0;
                if (!first) CollectionsMarshal.GetValueRefOrAddDefault(frequency, Prefix + character, out _) += count;
                first = false;
            }
        }
        foreach ((string token, long count) in frequency.ToArray())
            if (!token.StartsWith(Prefix, StringComparison.Ordinal)) frequency[token] = count + frequency.GetValueOrDefault(Prefix + token);
        IEnumerable<string> kept = frequency.Where(pair => pair.Value >= _minFrequency && !_ids.ContainsKey(pair.Key))
            .OrderByDescending(pair => pair.Value).ThenBy(pair => pair.Key, StringComparer.Ordinal).Take(_size - _tokens.Count).Select(pair => pair.Key);
        foreach (string token in kept.OrderBy(IsContinuation).ThenBy(token => char.ConvertToUtf32(token, IsContinuation(token) ? Prefix.Length : 0)))
        {
            _ids.Add(token, _tokens.Count);
            _tokens.Add(token);
        }
    }

    private static bool IsContinuation(string token) => token.Length > Prefix.Length && token.StartsWith(Prefix, StringComparison.Ordinal);

    /// <summary>Spells a word in characters; one that cannot be spelled is left out.</summary>
    private void AddWord(string word, long count)
    {
        List<int> pieces = [];
        foreach (Rune rune in word.EnumerateRunes())
        {
            if (!_ids.TryGetValue(pieces.Count == 0 ? rune.ToString() : string.Create(CultureInfo.InvariantCulture, $"{Prefix}{rune}"), out int id)) return;
            pieces.Add(id);
        }
        if (pieces.Count < 2) return;
        _words.Add([.. pieces]);
        _counts.Add(count);
        CountPairs(_words.Count - 1, count, index: true, grown: -1);
    }

    private void Merge(ulong pair)
    {
        (int left, int right) = ((int)(pair >> 32), (int)(pair & uint.MaxValue));
        string token = _tokens[left] + (IsContinuation(_tokens[right]) ? _tokens[right][Prefix.Length..] : _tokens[right]);
        if (!_ids.TryGetValue(token, out int joined))
        {
            joined = _tokens.Count;
            _ids.Add(token, joined);
            _tokens.Add(token);
        }
        _grown.Clear();
        foreach (int word in _pairWords[pair])
        {
            if (Join(_words[word], left, right, joined) is not { } merged) continue;
            CountPairs(word, -_counts[word], index: false, joined);
            _words[word] = merged;
            CountPairs(word, _counts[word], index: true, joined);
        }
        _pairWords.Remove(pair);
        _pairCounts.Remove(pair);
        foreach (ulong fresh in _grown)
            if (_pairCounts.GetValueOrDefault(fresh) is var count && count >= _minFrequency) _heap.Enqueue(fresh, (-count, fresh));
    }

    /// <summary>The word with every left-to-right occurrence of the pair joined; null if there is none.</summary>
    private static int[]? Join(int[] word, int left, int right, int joined)
    {
        int[]? merged = null;
        int length = 0;
        for (int i = 0; i < word.Length; i++)
        {
            bool match = word[i] == left && i + 1 < word.Length && word[i + 1] == right;
            if (match && merged is null) merged = word.AsSpan().ToArray();
            if (merged is not null) merged[length] = match ? joined : word[i];
            length++;
            if (match) i++;
        }
        return merged?[..length];
    }

    /// <summary>
    /// Adds <paramref name="count"/> to each pair of the word; with <paramref name="index"/> also notes where the pair was seen, and which pairs have a part
    /// <paramref name="grown"/>: only those can have become more frequent.
    /// </summary>
    private void CountPairs(int word, long count, bool index, int grown)
    {
        int[] pieces = _words[word];
        for (int i = 0; i + 1 < pieces.Length; i++)
        {
            ulong pair = (ulong)(uint)pieces[i] << 32 | (uint)pieces[i + 1];
            CollectionsMarshal.GetValueRefOrAddDefault(_pairCounts, pair, out _) += count;
            if (!index) continue;
            ref List<int>? seen = ref CollectionsMarshal.GetValueRefOrAddDefault(_pairWords, pair, out _);
            seen ??= [];
            if (seen.Count == 0 || seen[^1] != word) seen.Add(word);
            if (pieces[i] == grown || pieces[i + 1] == grown) _grown.Add(pair);
        }
    }
}
