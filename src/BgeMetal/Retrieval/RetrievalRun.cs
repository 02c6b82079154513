using System.Globalization;
using System.Text;
using BgeMetal.Data;
using BgeMetal.Files;

namespace BgeMetal.Retrieval;

/// <summary>A passage in a ranked list.</summary>
/// <param name="Id">The passage's id.</param>
/// <param name="Score">Its score; higher is better.</param>
public readonly record struct RankedPassage(string Id, float Score);

/// <summary>
/// What a system found: a ranked list of passages for each query. The lists are kept in trec_eval's order, whatever order they were given in: score, descending; equal
/// scores by passage id, descending in the order of its UTF-8 bytes; NaN last.
/// </summary>
public sealed class RetrievalRun
{
    private readonly Dictionary<string, RankedPassage[]> _lists = new(StringComparer.Ordinal);

    /// <summary>The queries, in the order they were added.</summary>
    public IReadOnlyCollection<string> Queries => _lists.Keys;

    /// <summary>The list of a query, best first; empty for a query that was not asked.</summary>
    public IReadOnlyList<RankedPassage> Of(string query) => _lists.TryGetValue(query, out RankedPassage[]? list) ? list : [];

    /// <summary>Adds the list of a query, in any order.</summary>
    /// <exception cref="ArgumentException">The query has a list already, or a passage is in the list twice.</exception>
    public void Add(string query, IEnumerable<RankedPassage> passages)
    {
        RankedPassage[] list = [.. passages];
        HashSet<string> seen = new(list.Length, StringComparer.Ordinal);
        foreach (RankedPassage passage in list)
            if (!seen.Add(passage.Id)) throw new ArgumentException($"passage \"{passage.Id}\" is twice in the list of query \"{query}\"");
        Array.Sort(list, InTrecOrder);
        if (!_lists.TryAdd(query, list)) throw new ArgumentException($"query \"{query}\" has a list already");
    }

    /// <summary>Adds the hits of a search.</summary>
    /// <exception cref="ArgumentException">The query has a list already, or two hits have the same id.</exception>
    public void Add(string query, IEnumerable<SearchHit> hits) => Add(query, hits.Select(h => new RankedPassage(h.Id, h.Score)));

    /// <summary>Writes the run as trec_eval reads it: query, "Q0", passage, rank from 1, score, tag, with spaces between.</summary>
    /// <exception cref="BgeMetalException">An id is empty or holds white space, which the format cannot say, or the file cannot be written.</exception>
    public void WriteTrec(string path, string tag = "bgemetal")
    {
        using AtomicFile file = AtomicFile.Create(path);
        using (StreamWriter writer = new(file.Stream, new UTF8Encoding(false), 1 << 16, leaveOpen: true))
        {
            writer.NewLine = "\n";
            foreach ((string query, RankedPassage[] list) in _lists)
                for (int i = 0; i < list.Length; i++)
                    writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Word(query, path)} Q0 {Word(list[i].Id, path)} {i + 1} {list[i].Score} {Word(tag, path)}"));
        }

        file.Commit();
    }

    /// <summary>Reads a run in trec_eval's format. The ranks are ignored, as trec_eval ignores them.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or a line is bad (with its number).</exception>
    public static RetrievalRun ReadTrec(string path)
    {
        Dictionary<string, Dictionary<string, float>> lists = new(StringComparer.Ordinal);
        using LineReader lines = LineReader.Open(path);
        while (lines.TryRead(out ReadOnlyMemory<byte> bytes))
        {
            string[] fields = Encoding.UTF8.GetString(bytes.Span).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length == 0) continue;
            if (fields.Length != 6) throw lines.Error($"6 fields were expected (query Q0 passage rank score tag), found {fields.Length}");
            if (!float.TryParse(fields[4], NumberStyles.Float, CultureInfo.InvariantCulture, out float score))
                throw lines.Error($"the score must be a number, found \"{fields[4]}\"");
            if (!lists.TryGetValue(fields[0], out Dictionary<string, float>? list)) lists[fields[0]] = list = new(StringComparer.Ordinal);
            if (!list.TryAdd(fields[2], score)) throw lines.Error($"passage \"{fields[2]}\" is twice in the list of query \"{fields[0]}\"");
        }

        RetrievalRun run = new();
        foreach ((string query, Dictionary<string, float> list) in lists) run.Add(query, list.Select(p => new RankedPassage(p.Key, p.Value)));
        return run;
    }

    private static string Word(string text, string path) => text.Length > 0 && !text.Any(char.IsWhiteSpace)
        ? text : throw new BgeMetalException("cannot write the run", $"\"{text}\" is empty or holds white space, which the TREC format cannot say", path);

    private static int InTrecOrder(RankedPassage a, RankedPassage b)
    {
        float left = float.IsNaN(a.Score) ? float.NegativeInfinity : a.Score, right = float.IsNaN(b.Score) ? float.NegativeInfinity : b.Score;
        int byScore = right.CompareTo(left);
        if (byScore != 0) return byScore;
        int byNumber = float.IsNaN(a.Score).CompareTo(float.IsNaN(b.Score));
        return byNumber != 0 ? byNumber : -CompareUtf8(a.Id, b.Id);
    }

    /// <summary>Compares as the UTF-8 bytes compare. UTF-16 units differ from that only in that surrogates (code points from U+10000) sort below U+E000.</summary>
    private static int CompareUtf8(string a, string b)
    {
        int at = a.AsSpan().CommonPrefixLength(b);
        if (at == a.Length || at == b.Length) return a.Length.CompareTo(b.Length);
        static int Position(char c) => c >= 0xE000 ? c - 0x800 : c >= 0xD800 ? c + 0x2000 : c;
        return Position(a[at]).CompareTo(Position(b[at]));
    }
}
