using System.Text.Json;
using BgeMetal.Files;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>Writes measures as JSON.</summary>
internal static class EvaluationJson
{
    private static readonly JsonWriterOptions s_options = new() { Indented = true, NewLine = "\n", Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Writes <c>{"model", "reranker", "datasets": [{"data", "split", "queries", .., "metrics": {..}, "comparison": {..}}], "average": {..}}</c>; a comparison is
    /// <c>{"baseline", "seed", "metrics": {NAME: {"baseline", "difference", "better", "worse", "equal", "p_t_test", "p_randomization"}}}</c>.
    /// </summary>
    public static void Write(string path, EvaluationHead head, IReadOnlyList<EvaluatedSet> measured)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, s_options))
        {
            json.WriteStartObject();
            json.WriteString("model"u8, head.Model);
            json.WriteString("reranker"u8, head.Reranker);
            json.WriteStartArray("datasets"u8);
            foreach (EvaluatedSet set in measured) WriteSet(json, head, set);
            json.WriteEndArray();
            WriteMetrics(json, "average", measured[0].Report.MetricNames, name => measured.Average(set => set.Report.Averages[name]));
            json.WriteEndObject();
        }
        stream.Write("\n"u8);
        AtomicFile.WriteAllBytes(path, stream.ToArray());
    }

    private static void WriteSet(Utf8JsonWriter json, EvaluationHead head, EvaluatedSet set)
    {
        json.WriteStartObject();
        json.WriteString("data"u8, set.Label);
        if (set.Data is { } data)
        {
            json.WriteString("split"u8, data.Split);
            json.WriteNumber("passages"u8, data.Corpus.Count);
        }
        json.WriteNumber("queries"u8, set.Report.Queries.Count);
        json.WriteNumber("queries_without_relevant"u8, set.Report.QueriesWithoutRelevant);
        json.WriteNumber("queries_without_results"u8, set.Report.QueriesWithoutResults);
        WriteMetrics(json, "metrics", set.Report.MetricNames, name => set.Report.Averages[name]);
        if (set.Comparison is { } comparison) WriteComparison(json, head, comparison);
        json.WriteEndObject();
    }

    private static void WriteComparison(Utf8JsonWriter json, EvaluationHead head, RunComparison comparison)
    {
        json.WriteStartObject("comparison"u8);
        json.WriteString("baseline"u8, head.Baseline);
        json.WriteNumber("seed"u8, comparison.Seed);
        json.WriteStartObject("metrics"u8);
        foreach (MetricComparison metric in comparison.Metrics)
        {
            json.WriteStartObject(metric.Metric);
            json.WriteNumber("baseline"u8, metric.Baseline);
            json.WriteNumber("difference"u8, metric.Difference);
            json.WriteNumber("better"u8, metric.Wins);
            json.WriteNumber("worse"u8, metric.Losses);
            json.WriteNumber("equal"u8, metric.Ties);
            if (double.IsNaN(metric.TTest)) json.WriteNull("p_t_test"u8);
            else json.WriteNumber("p_t_test"u8, metric.TTest);
            json.WriteNumber("p_randomization"u8, metric.Randomization);
            json.WriteEndObject();
        }
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteMetrics(Utf8JsonWriter json, string property, IReadOnlyList<string> names, Func<string, double> valueOf)
    {
        json.WriteStartObject(property);
        foreach (string name in names) json.WriteNumber(name, valueOf(name));
        json.WriteEndObject();
    }
}
