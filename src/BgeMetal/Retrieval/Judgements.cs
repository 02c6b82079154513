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
    /// Reads a file of judgements, by its ending: <c>.jsonl</c> or <c>.json</c> with rows <c>{"qid","docid","relevance"}</c> (FlagEmbedding); else lines of query id,
    /// passage id and a whole-numbered relevance with tabs between them (BEIR), or TREC's four fields query id, iteration, passage id and relevance with tabs or blanks.
    /// The first line is passed over as a header unless its last field is a number. Empty lines are ignored. <c>.gz</c> of each is fine.
    /// </summary>
    /// <exception cref="BgeMetalException">The file cannot be read, a line is bad (with its number), or there is no judgement at all.</exception>
    public static Judgements Read(string path)
    {
        Judgements judgements = new();
        if (RetrievalRows.IsJson(path)) judgements.ReadJson(path);
        else judgements.ReadFields(path);
        return judgements.Count > 0 ? judgements : throw new BgeMetalException("cannot read the judgements", "the file has none", path);
    }

    private void ReadJson(string path)
    {
        using JsonLineReader rows = JsonLineReader.Open(path);
        while (rows.TryRead(out JsonRow row))
        {
            string query = row.Identifier("qid") ?? throw row.Missing("qid", "a string"), passage = row.Identifier("docid") ?? throw row.Missing("docid", "a string");
            int relevance = row.Integer("relevance", int.MinValue) ?? throw row.Missing("relevance", "a whole number");
            Add(query, passage, relevance, row.Error);
        }
    }

    private void ReadFields(string path)
    {
        using LineReader lines = LineReader.Open(path);
        while (lines.TryRead(out ReadOnlyMemory<byte> bytes))
        {
            string line = Encoding.UTF8.GetString(bytes.Span);
            if (string.IsNullOrWhiteSpace(line)) continue;
            string[] fields = line.Contains('\t', StringComparison.Ordinal) ? line.Split('\t') : line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            bool ofTrec = fields.Length == 4;
            if (!ofTrec && (fields.Length != 3 || !line.Contains('\t', StringComparison.Ordinal)))
                throw lines.Error($"query id, passage id and relevance with tabs between them, or TREC's 4 fields, were expected, found {fields.Length} fields");
            if (!int.TryParse(fields[^1].AsSpan().Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int relevance))
            {
                if (lines.Line == 1) continue;
                throw lines.Error($"the relevance must be a whole number, found \"{fields[^1]}\"");
            }

            Add(fields[0], fields[ofTrec ? 2 : 1], relevance, lines.Error);
        }
    }

    private void Add(string query, string passage, int relevance, Func<string, Exception?, BgeMetalException> error)
    {
        if (query.Length == 0 || passage.Length == 0) throw error($"the {(query.Length == 0 ? "query" : "passage")} id is empty", null);
        try
        {
            Add(query, passage, relevance);
        }
        catch (ArgumentException e)
        {
            throw error(e.Message, e);
        }
    }
}
