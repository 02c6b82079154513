using System.Globalization;
using System.Text;
using BgeMetal.Data;

namespace BgeMetal.Retrieval;

/// <summary>Which passages are relevant to which queries, and how much: 0 or less is not relevant, 1 and more is (graded).</summary>
public sealed class Judgements
{
    private static readonly Dictionary<string, int> s_none = [];

    private readonly Dictionary<string, Dictionary<string, int>> _byQuery = new(StringComparer.Ordinal);

    /// <summary>The judged queries, in the order they were added.</summary>
    public IReadOnlyCollection<string> Queries => _byQuery.Keys;

    /// <summary>How many pairs are judged.</summary>
    public int Count { get; private set; }

    /// <summary>The judged passages of a query with their relevance; empty for a query that is not judged.</summary>
    public IReadOnlyDictionary<string, int> Of(string query) => _byQuery.GetValueOrDefault(query, s_none);

    /// <summary>Adds a judgement; the same one twice is kept once.</summary>
    /// <exception cref="ArgumentException">The pair was judged differently before.</exception>
    public void Add(string query, string passage, int relevance)
    {
        if (!_byQuery.TryGetValue(query, out Dictionary<string, int>? passages)) _byQuery[query] = passages = new(StringComparer.Ordinal);
        if (passages.TryAdd(passage, relevance)) Count++;
        else if (passages[passage] != relevance)
            throw new ArgumentException($"query \"{query}\" and passage \"{passage}\" were judged {passages[passage]} before and {relevance} here");
    }

    /// <summary>
    /// Reads a tab-separated file of query id, passage id and a whole-numbered relevance. The first line is passed over as a header unless its third field is a number.
    /// Empty lines are ignored. <c>.gz</c> is fine.
    /// </summary>
    /// <exception cref="BgeMetalException">The file cannot be read, a line is bad (with its number), or there is no judgement at all.</exception>
    public static Judgements Read(string path)
    {
        Judgements judgements = new();
        using LineReader lines = LineReader.Open(path);
        while (lines.TryRead(out ReadOnlyMemory<byte> bytes))
        {
            string line = Encoding.UTF8.GetString(bytes.Span);
            if (string.IsNullOrWhiteSpace(line)) continue;
            string[] fields = line.Split('\t');
            if (fields.Length != 3)
                throw lines.Error($"3 fields with tabs between them were expected (query id, passage id, relevance), found {fields.Length}");
            if (!int.TryParse(fields[2].AsSpan().Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int relevance))
            {
                if (lines.Line == 1) continue;
                throw lines.Error($"the relevance must be a whole number, found \"{fields[2]}\"");
            }

            if (fields[0].Length == 0 || fields[1].Length == 0) throw lines.Error($"the {(fields[0].Length == 0 ? "query" : "passage")} id is empty");
            try
            {
                judgements.Add(fields[0], fields[1], relevance);
            }
            catch (ArgumentException e)
            {
                throw lines.Error(e.Message, e);
            }
        }

        return judgements.Count > 0 ? judgements : throw new BgeMetalException("cannot read the judgements", "the file has none", path);
    }
}
