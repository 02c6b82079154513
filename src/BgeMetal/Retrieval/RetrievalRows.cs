using System.Globalization;
using System.Text;
using BgeMetal.Data;

namespace BgeMetal.Retrieval;

/// <summary>A query with the passages its row names as answers, or null where it names none.</summary>
internal readonly record struct QueryRow(RetrievalQuery Query, string[]? Positives, long Line);

/// <summary>
/// The rows of a retrieval test set's corpus and queries. A file that ends in <c>.jsonl</c> or <c>.json</c> holds JSON lines: BEIR's (<c>_id</c>, <c>title</c>, <c>text</c>),
/// FlagEmbedding's (<c>id</c>, <c>title</c>, <c>text</c>), or those of its eval_msmarco (<c>content</c>; <c>query</c>, <c>positive</c>). Any other file holds fields with tabs
/// between them, as MS MARCO is published: id and text, a title before the text, a URL before both. <c>.gz</c> of each.
/// </summary>
internal static class RetrievalRows
{
    /// <summary>Whether a file holds JSON lines.</summary>
    public static bool IsJson(string path)
    {
        string name = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? path[..^3] : path;
        return name.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase) || name.EndsWith(".json", StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>The passages of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="numbered">Whether a row without an id goes by the number of its line.</param>
    /// <exception cref="BgeMetalException">A row is bad or its id was used before (with file and line), or there is none.</exception>
    public static List<RetrievalPassage> Corpus(string path, bool numbered) => Read(path, passage => passage.Id,
        row => new RetrievalPassage(Id(row, numbered), row.Text("title") ?? "", row.Text("text") ?? row.Text("content") ?? row.Text("body") ?? throw row.Missing("text", "a string")),
        (fields, lines) => fields.Length is >= 2 and <= 4 ? new RetrievalPassage(fields[0], fields.Length > 2 ? fields[^2] : "", fields[^1])
            : throw lines.Error($"id and text with a tab between them were expected, with a title or a URL and a title before the text at most, found {fields.Length} fields"));

    /// <summary>The queries of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="numbered">Whether a row without an id goes by the number of its line.</param>
    /// <exception cref="BgeMetalException">A row is bad or its id was used before (with file and line), or there is none.</exception>
    public static List<QueryRow> Queries(string path, bool numbered) => Read(path, row => row.Query.Id,
        row => new QueryRow(new RetrievalQuery(Id(row, numbered), row.Text("text") ?? row.Text("query") ?? throw row.Missing("text", "a string")), row.Texts("positive") ?? row.Texts("pos"), row.Line),
        (fields, lines) => fields.Length == 2 ? new QueryRow(new RetrievalQuery(fields[0], fields[1]), null, lines.Line)
            : throw lines.Error($"id and text with a tab between them were expected, found {fields.Length} fields"));

    private static string Id(JsonRow row, bool numbered) =>
        row.Identifier("_id") ?? row.Identifier("id") ?? (numbered ? row.Line.ToString(CultureInfo.InvariantCulture) : throw row.Missing("_id", "a string"));

    private static List<T> Read<T>(string path, Func<T, string> idOf, Func<JsonRow, T> fromJson, Func<string[], LineReader, T> fromFields)
    {
        List<T> rows = [];
        Dictionary<string, long> lineOf = new(StringComparer.Ordinal);
        void Add(T row, long line, Func<string, Exception?, BgeMetalException> error)
        {
            if (!lineOf.TryAdd(idOf(row), line)) throw error($"\"_id\" \"{idOf(row)}\" was already used in line {lineOf[idOf(row)]}", null);
            rows.Add(row);
        }

        if (IsJson(path))
        {
            using JsonLineReader reader = JsonLineReader.Open(path);
            while (reader.TryRead(out JsonRow row)) Add(fromJson(row), row.Line, row.Error);
        }
        else
        {
            using LineReader lines = LineReader.Open(path);
            while (lines.TryRead(out ReadOnlyMemory<byte> line))
                if (!line.Span.Trim(" \t"u8).IsEmpty) Add(fromFields(Encoding.UTF8.GetString(line.Span).Split('\t'), lines), lines.Line, lines.Error);
        }

        return rows.Count > 0 ? rows : throw new BgeMetalException("cannot read the data set", "the file has no rows", path);
    }
}
