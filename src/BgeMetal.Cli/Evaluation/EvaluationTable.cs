using System.Globalization;
using System.Text.Json;
using BgeMetal.Cli.Output;
using BgeMetal.Files;
using BgeMetal.Retrieval;
using Spectre.Console;

namespace BgeMetal.Cli.Evaluation;

/// <summary>Shows the measures of one or more data sets: a row a measure, a column a data set, and the average where there are several.</summary>
internal static class EvaluationTable
{
    /// <summary>Draws the table.</summary>
    /// <param name="terminal">Where.</param>
    /// <param name="measured">The data sets with their measures, all of the same names.</param>
    /// <param name="results">Whether the table is the command's result; else it is a note beside it.</param>
    public static void Show(Terminal terminal, IReadOnlyList<(RetrievalDataset Data, RetrievalReport Report)> measured, bool results)
    {
        if (!results && terminal.Quiet) return;
        // Precision and hit rate are in the files; here they would only make the table long.
        IEnumerable<string> names = measured[0].Report.MetricNames.Where(name => !name.StartsWith("precision", StringComparison.Ordinal) && !name.StartsWith("hit_rate", StringComparison.Ordinal));
        Table table = new() { Border = TableBorder.Rounded };
        table.AddColumn("measure");
        foreach ((RetrievalDataset data, RetrievalReport report) in measured)
            table.AddColumn(new TableColumn(Markup.Escape($"{data.Name} ({report.Queries.Count} queries)")).RightAligned());
        if (measured.Count > 1) table.AddColumn(new TableColumn("average").RightAligned());
        foreach (string name in names)
        {
            List<double> values = [.. measured.Select(m => m.Report.Averages[name])];
            if (values.Count > 1) values.Add(values.Average());
            table.AddRow([Label(name), .. values.Select(value => value.ToString("0.0000", CultureInfo.InvariantCulture))]);
        }
        terminal.Canvas(results).Write(table);
    }

    /// <summary>Writes <c>{"model", "reranker", "datasets": [{"data", "split", "queries", .., "metrics": {..}}], "average": {..}}</c>.</summary>
    public static void WriteJson(string path, string model, string? reranker, IReadOnlyList<(RetrievalDataset Data, RetrievalReport Report)> measured)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("model"u8, model);
            json.WriteString("reranker"u8, reranker);
            json.WriteStartArray("datasets"u8);
            foreach ((RetrievalDataset data, RetrievalReport report) in measured)
            {
                json.WriteStartObject();
                json.WriteString("data"u8, data.Name);
                json.WriteString("split"u8, data.Split);
                json.WriteNumber("passages"u8, data.Corpus.Count);
                json.WriteNumber("queries"u8, report.Queries.Count);
                json.WriteNumber("queries_without_relevant"u8, report.QueriesWithoutRelevant);
                json.WriteNumber("queries_without_results"u8, report.QueriesWithoutResults);
                WriteMetrics(json, "metrics", report.MetricNames, name => report.Averages[name]);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            WriteMetrics(json, "average", measured[0].Report.MetricNames, name => measured.Average(m => m.Report.Averages[name]));
            json.WriteEndObject();
        }
        stream.Write("\n"u8);
        AtomicFile.WriteAllBytes(path, stream.ToArray());
    }

    private static void WriteMetrics(Utf8JsonWriter json, string property, IReadOnlyList<string> names, Func<string, double> valueOf)
    {
        json.WriteStartObject(property);
        foreach (string name in names) json.WriteNumber(name, valueOf(name));
        json.WriteEndObject();
    }

    private static string Label(string name) => name.Replace("ndcg", "nDCG", StringComparison.Ordinal).Replace("mrr", "MRR", StringComparison.Ordinal).Replace("map", "MAP", StringComparison.Ordinal);
}
