using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using BgeMetal.Files;
using CsvHelper;

namespace BgeMetal.Retrieval;

/// <summary>The measures of one query.</summary>
/// <param name="QueryId">The query's id.</param>
/// <param name="Relevant">How many passages are relevant to it.</param>
/// <param name="Retrieved">How many results it got.</param>
/// <param name="Values">Its measures, in the order of <see cref="RetrievalReport.MetricNames"/>.</param>
public sealed record QueryReport(string QueryId, int Relevant, int Retrieved, IReadOnlyList<double> Values);

/// <summary>The measures of a run: averages and per query. See <see cref="RetrievalMetrics"/> for their definitions.</summary>
public sealed class RetrievalReport
{
    private static readonly JsonWriterOptions s_json = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal RetrievalReport(IReadOnlyList<string> names, IReadOnlyList<QueryReport> queries, int withoutRelevant, int withoutResults)
    {
        MetricNames = names;
        Queries = queries;
        QueriesWithoutRelevant = withoutRelevant;
        QueriesWithoutResults = withoutResults;
        Averages = names.Select((name, i) => (name, queries.Average(q => q.Values[i]))).ToDictionary(x => x.name, x => x.Item2, StringComparer.Ordinal);
    }

    /// <summary>"ndcg@10", "mrr@10", ..., "map", in a fixed order.</summary>
    public IReadOnlyList<string> MetricNames { get; }

    /// <summary>The queries that were measured, in the order of the judgements.</summary>
    public IReadOnlyList<QueryReport> Queries { get; }

    /// <summary>The average of each measure over <see cref="Queries"/>.</summary>
    public IReadOnlyDictionary<string, double> Averages { get; }

    /// <summary>Judged queries without a relevant passage; they count 0.</summary>
    public int QueriesWithoutRelevant { get; }

    /// <summary>Measured queries without any result; they count 0.</summary>
    public int QueriesWithoutResults { get; }

    /// <summary>An average by name.</summary>
    /// <exception cref="KeyNotFoundException">There is no such measure.</exception>
    public double this[string metric] => Averages[metric];

    /// <summary>
    /// Writes <c>{..properties.., "queries": n, "queries_without_relevant": n, "queries_without_results": n, "metrics": {"ndcg@1": x, ..}}</c>.
    /// </summary>
    /// <param name="path">The file to make.</param>
    /// <param name="properties">Names and values to put first, such as the model and the data set.</param>
    /// <exception cref="BgeMetalException">The file cannot be written.</exception>
    public void WriteJson(string path, IEnumerable<KeyValuePair<string, string>>? properties = null)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, s_json))
        {
            json.WriteStartObject();
            foreach ((string name, string value) in properties ?? []) json.WriteString(name, value);
            json.WriteNumber("queries"u8, Queries.Count);
            json.WriteNumber("queries_without_relevant"u8, QueriesWithoutRelevant);
            json.WriteNumber("queries_without_results"u8, QueriesWithoutResults);
            json.WriteStartObject("metrics"u8);
            foreach (string name in MetricNames) json.WriteNumber(name, Averages[name]);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        stream.Write("\n"u8);
        AtomicFile.WriteAllBytes(path, stream.ToArray());
    }

    /// <summary>Writes one row a query: <c>query_id,relevant,retrieved,ndcg@1,..</c>.</summary>
    /// <exception cref="BgeMetalException">The file cannot be written.</exception>
    public void WriteCsv(string path)
    {
        using AtomicFile file = AtomicFile.Create(path);
        using (StreamWriter text = new(file.Stream, new UTF8Encoding(false), 1 << 16, leaveOpen: true))
        using (CsvWriter csv = new(text, new CsvHelper.Configuration.CsvConfiguration(CultureInfo.InvariantCulture) { NewLine = "\n" }))
        {
            foreach (string name in (IEnumerable<string>)["query_id", "relevant", "retrieved", .. MetricNames]) csv.WriteField(name);
            csv.NextRecord();
            foreach (QueryReport query in Queries)
            {
                csv.WriteField(query.QueryId);
                csv.WriteField(query.Relevant);
                csv.WriteField(query.Retrieved);
                foreach (double value in query.Values) csv.WriteField(value);
                csv.NextRecord();
            }
        }

        file.Commit();
    }

    /// <summary>Reads what <see cref="WriteCsv"/> wrote. The counts of queries without relevant passages and without results are counted again.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, its header is not of that form, or a line is bad (with its number).</exception>
    public static RetrievalReport ReadCsv(string path)
    {
        const string Failure = "cannot read the queries' measures";
        if (!File.Exists(path)) throw new BgeMetalException(Failure, "there is no such file", path);
        try
        {
            using StreamReader text = new(path, Encoding.UTF8);
            using CsvParser rows = new(text, new CsvHelper.Configuration.CsvConfiguration(CultureInfo.InvariantCulture));
            if (!rows.Read() || rows.Record is not ["query_id", "relevant", "retrieved", _, ..] header)
                throw new BgeMetalException(Failure, "the header query_id,relevant,retrieved and at least one measure was expected", path, 1);
            if (header.GroupBy(name => name, StringComparer.Ordinal).FirstOrDefault(names => names.Count() > 1) is { } twice)
                throw new BgeMetalException(Failure, $"the column {twice.Key} is there twice", path, 1);
            List<QueryReport> queries = [];
            HashSet<string> seen = new(StringComparer.Ordinal);
            while (rows.Read()) queries.Add(Query(rows.Record!, header, seen, why => new BgeMetalException(Failure, why, path, rows.RawRow)));
            if (queries.Count == 0) throw new BgeMetalException(Failure, "it has no query", path);
            return new RetrievalReport(header[3..], queries, queries.Count(query => query.Relevant == 0), queries.Count(query => query.Retrieved == 0));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CsvHelperException)
        {
            throw new BgeMetalException(Failure, e.Message.Split('\n')[0].TrimEnd('\r'), path, innerException: e);
        }
    }

    /// <summary>The values of a measure by query.</summary>
    /// <exception cref="KeyNotFoundException">There is no such measure.</exception>
    public Dictionary<string, double> ByQuery(string metric)
    {
        int at = MetricNames.ToList().IndexOf(metric);
        if (at < 0) throw new KeyNotFoundException($"there is no measure \"{metric}\"");
        return Queries.ToDictionary(query => query.QueryId, query => query.Values[at], StringComparer.Ordinal);
    }

    private static QueryReport Query(string[] fields, string[] header, HashSet<string> seen, Func<string, BgeMetalException> error)
    {
        if (fields.Length != header.Length) throw error($"{header.Length} fields were expected, found {fields.Length}");
        if (!seen.Add(fields[0])) throw error($"query \"{fields[0]}\" is there twice");
        double[] values = new double[fields.Length - 3];
        for (int i = 0; i < values.Length; i++)
            if (!double.TryParse(fields[i + 3], NumberStyles.Float, CultureInfo.InvariantCulture, out values[i]) || !double.IsFinite(values[i]))
                throw error($"{header[i + 3]} must be a number, found \"{fields[i + 3]}\"");
        if (int.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out int relevant) && int.TryParse(fields[2], NumberStyles.None, CultureInfo.InvariantCulture, out int retrieved))
            return new QueryReport(fields[0], relevant, retrieved, values);
        throw error($"relevant and retrieved must be whole numbers, found \"{fields[1]}\" and \"{fields[2]}\"");
    }
}
