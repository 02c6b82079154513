using System.Globalization;
using System.Net;
using System.Text;
using BgeMetal.Cli.Output;
using BgeMetal.Files;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>
/// A run's measures as one HTML page that needs nothing else: tables, pictures within the page, the queries that went worst. Every text from outside is escaped, and the
/// page forbids scripts and anything from elsewhere. The same run gives the same bytes.
/// </summary>
internal sealed class EvaluationPage
{
    private const int WorstQueries = 20, MovedQueries = 10, LongestText = 300;

    private const string Style = """
        body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72em; margin: 2em auto; padding: 0 1em }
        h1, h2, h3 { line-height: 1.2; margin-top: 1.6em } dt { font-weight: 600 } dd { margin: 0 0 .4em 1.5em }
        table { border-collapse: collapse; margin: 1em 0 } th, td { border: 1px solid #ccc; padding: .25em .7em; text-align: left; vertical-align: top }
        td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } img { max-width: 100% } figure { display: inline-block; margin: 1em 1em 1em 0 }
        .note { color: #555; max-width: 60em }
        """;

    private readonly StringBuilder _html = new();

    private EvaluationPage() { }

    /// <summary>Writes the page, whole or not at all.</summary>
    public static void Write(string path, EvaluationHead head, IReadOnlyList<EvaluatedSet> sets)
    {
        EvaluationPage page = new();
        page.Begin(head, sets);
        page.Measures(sets);
        foreach (EvaluatedSet set in sets) page.Set(set);
        page._html.Append("</body>\n</html>\n");
        AtomicFile.WriteAllText(path, page._html.ToString());
    }

    /// <summary>The measure that pictures and lists show: nDCG at 10, else at the cut-off next below it, else the first measure.</summary>
    private static string Chief(IReadOnlyList<string> names) => names.LastOrDefault(name => name.StartsWith("ndcg@", StringComparison.Ordinal)
        && int.TryParse(name["ndcg@".Length..], NumberStyles.None, CultureInfo.InvariantCulture, out int k) && k <= 10) ?? names[0];

    private void Begin(EvaluationHead head, IReadOnlyList<EvaluatedSet> sets)
    {
        _html.Append("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .Append("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n")
            .Append("<title>").Append(Escaped($"Retrieval: {head.Model}")).Append("</title>\n<style>\n").Append(Style).Append("\n</style>\n</head>\n<body>\n<h1>Retrieval</h1>\n<dl>\n");
        Fact("model", head.Model);
        Fact("reranker", head.Reranker);
        Fact("before each query", head.Instruction is "" ? "nothing" : head.Instruction);
        Fact("compared with", head.Baseline);
        foreach (EvaluatedSet set in sets) Fact(set.Label, Describe(set));
        _html.Append("</dl>\n");
    }

    private static string Describe(EvaluatedSet set)
    {
        RetrievalReport report = set.Report;
        string left = report.QueriesWithoutRelevant > 0 ? $", {Terminal.Count(report.QueriesWithoutRelevant)} without a relevant passage count 0" : "";
        string lost = report.QueriesWithoutResults > 0 ? $", {Terminal.Count(report.QueriesWithoutResults)} without results count 0" : "";
        string passages = set.Data is { } data ? $" over {Terminal.Count(data.Corpus.Count)} passages" : "";
        return $"{Terminal.Count(report.Queries.Count)} queries{passages}{left}{lost}";
    }

    private void Measures(IReadOnlyList<EvaluatedSet> sets)
    {
        _html.Append("<h2>Measures</h2>\n");
        string[] average = sets.Count > 1 ? ["average"] : [];
        Table(["measure", .. sets.Select(set => set.Label), .. average], sets[0].Report.MetricNames.Select(name =>
        {
            double[] values = [.. sets.Select(set => set.Report.Averages[name])];
            return (string[])[EvaluationTable.Name(name), .. values.Select(EvaluationTable.Value), .. average.Select(_ => EvaluationTable.Value(values.Average()))];
        }), texts: 1);
        _html.Append("<p class=\"note\">As trec_eval defines them: equal scores are ranked by descending passage id, a query without results or without a relevant passage counts 0.</p>\n");
    }

    private void Set(EvaluatedSet set)
    {
        string chief = Chief(set.Report.MetricNames), name = EvaluationTable.Name(chief);
        Dictionary<string, double> values = set.Report.ByQuery(chief);
        _html.Append("<h2>").Append(Escaped(set.Label)).Append("</h2>\n");
        if (set.Comparison is { } comparison) Compare(comparison);
        Figure($"{name} of the queries", EvaluationPlots.Histogram(name, [.. values.Values]));
        bool compares = set.Comparison?.Metrics.Any(metric => metric.Metric == chief) == true;
        double[] differences = compares ? set.Comparison!.Differences(chief) : [];
        if (compares) Figure($"difference of {name} to the baseline", EvaluationPlots.Differences(name, differences));
        Dictionary<string, string> texts = set.Data?.Queries.ToDictionary(query => query.Id, query => query.Text, StringComparer.Ordinal) ?? [];
        if (compares)
        {
            (QueryReport Query, double Value)[] moved = [.. set.Report.Queries.Zip(differences)];
            Queries($"Most improved in {name}", moved.Where(item => item.Value > 0).OrderByDescending(item => item.Value).Take(MovedQueries), "difference", EvaluationTable.Signed, texts);
            Queries($"Most worsened in {name}", moved.Where(item => item.Value < 0).OrderBy(item => item.Value).Take(MovedQueries), "difference", EvaluationTable.Signed, texts);
        }
        Queries($"Lowest {name}", set.Report.Queries.Select(query => (query, values[query.QueryId])).Where(item => item.Item2 < 1).OrderBy(item => item.Item2).Take(WorstQueries), name, EvaluationTable.Value, texts);
    }

    private void Compare(RunComparison comparison)
    {
        Table(["measure", "baseline", "this run", "difference", "better", "worse", "equal", "p (t-test)", "p (randomisation)"], comparison.Metrics.Select(metric => (string[])
            [EvaluationTable.Name(metric.Metric), EvaluationTable.Value(metric.Baseline), EvaluationTable.Value(metric.Run), EvaluationTable.Signed(metric.Difference),
                .. ((int[])[metric.Wins, metric.Losses, metric.Ties]).Select(count => count.ToString(CultureInfo.InvariantCulture)),
                EvaluationTable.Probability(metric.TTest), EvaluationTable.Probability(metric.Randomization)]), texts: 1);
        _html.Append(CultureInfo.InvariantCulture, $"<p class=\"note\">p is the probability of a difference at least this large if both were equally good, two-sided: Student's paired t-test, and the paired randomisation test (Smucker, Allan and Carterette 2007; seed {comparison.Seed}). Looking at several measures is not corrected for.</p>\n");
    }

    private void Queries(string title, IEnumerable<(QueryReport Query, double Value)> queries, string column, Func<double, string> show, Dictionary<string, string> texts)
    {
        (QueryReport Query, double Value)[] some = [.. queries];
        if (some.Length == 0) return;
        _html.Append("<h3>").Append(Escaped(title)).Append("</h3>\n");
        Table(["id", "query", column, "relevant", "retrieved"], some.Select(item => (string[])[item.Query.QueryId, Shortened(texts.GetValueOrDefault(item.Query.QueryId, "")), show(item.Value),
            item.Query.Relevant.ToString(CultureInfo.InvariantCulture), item.Query.Retrieved.ToString(CultureInfo.InvariantCulture)]), texts: 2);
    }

    private void Table(IReadOnlyList<string> header, IEnumerable<string[]> rows, int texts)
    {
        _html.Append("<table>\n");
        Row("th", header, texts);
        foreach (string[] row in rows) Row("td", row, texts);
        _html.Append("</table>\n");
    }

    private void Row(string tag, IReadOnlyList<string> cells, int texts)
    {
        _html.Append("<tr>");
        for (int i = 0; i < cells.Count; i++) _html.Append('<').Append(tag).Append(i < texts ? ">" : " class=\"n\">").Append(Escaped(cells[i])).Append("</").Append(tag).Append('>');
        _html.Append("</tr>\n");
    }

    /// <summary>The picture as an image of its own: names inside it cannot meet those of another.</summary>
    private void Figure(string title, string svg) => _html.Append("<figure><figcaption>").Append(Escaped(title)).Append("</figcaption><img alt=\"").Append(Escaped(title))
        .Append("\" src=\"data:image/svg+xml;base64,").Append(Convert.ToBase64String(Encoding.UTF8.GetBytes(svg))).Append("\"></figure>\n");

    private void Fact(string name, string? value)
    {
        if (value is not null) _html.Append("<dt>").Append(Escaped(name)).Append("</dt><dd>").Append(Escaped(value)).Append("</dd>\n");
    }

    private static string Shortened(string text)
    {
        if (text.Length <= LongestText) return text;
        int end = char.IsHighSurrogate(text[LongestText - 1]) ? LongestText - 1 : LongestText;
        return text[..end] + "...";
    }

    private static string Escaped(string text) => WebUtility.HtmlEncode(text);
}
