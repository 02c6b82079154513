using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Retrieval;
using Spectre.Console;

namespace BgeMetal.Cli.Evaluation;

/// <summary>Shows the measures of one or more data sets: a row a measure, a column a data set, and the average where there are several; then each comparison.</summary>
internal static class EvaluationTable
{
    /// <summary>Draws the tables.</summary>
    /// <param name="terminal">Where.</param>
    /// <param name="measured">The data sets with their measures, all of the same names.</param>
    /// <param name="results">Whether the tables are the command's result; else they are a note beside it.</param>
    public static void Show(Terminal terminal, IReadOnlyList<EvaluatedSet> measured, bool results)
    {
        if (!results && terminal.Quiet) return;
        IAnsiConsole canvas = terminal.Canvas(results);
        canvas.Write(Measures(measured));
        foreach (EvaluatedSet set in measured)
            if (set.Comparison is { } comparison) canvas.Write(Comparison(set.Label, comparison));
    }

    /// <summary>The measures that fit into a table: precision and hit rate are in the files, here they would only make it long.</summary>
    public static IEnumerable<string> Shown(IEnumerable<string> names) =>
        names.Where(name => !name.StartsWith("precision", StringComparison.Ordinal) && !name.StartsWith("hit_rate", StringComparison.Ordinal));

    /// <summary>A measure's name as people write it.</summary>
    public static string Name(string name) => name.Replace("ndcg", "nDCG", StringComparison.Ordinal).Replace("mrr", "MRR", StringComparison.Ordinal).Replace("map", "MAP", StringComparison.Ordinal);

    /// <summary>A measure's value, or a dash where there is none.</summary>
    public static string Value(double value) => double.IsNaN(value) ? "-" : value.ToString("0.0000", CultureInfo.InvariantCulture);

    /// <summary>A difference with its sign.</summary>
    public static string Signed(double value) => value.ToString("+0.0000;-0.0000;0.0000", CultureInfo.InvariantCulture);

    /// <summary>A probability; one that would be shown as 0 as its order of magnitude.</summary>
    public static string Probability(double value) => value is > 0 and < 0.0001 ? value.ToString("0e-0", CultureInfo.InvariantCulture) : Value(value);

    private static Table Measures(IReadOnlyList<EvaluatedSet> measured)
    {
        Table table = new() { Border = TableBorder.Rounded };
        table.AddColumn("measure");
        foreach (EvaluatedSet set in measured) table.AddColumn(new TableColumn(Markup.Escape($"{set.Label} ({set.Report.Queries.Count} queries)")).RightAligned());
        if (measured.Count > 1) table.AddColumn(new TableColumn("average").RightAligned());
        foreach (string name in Shown(measured[0].Report.MetricNames))
        {
            List<double> values = [.. measured.Select(set => set.Report.Averages[name])];
            if (values.Count > 1) values.Add(values.Average());
            table.AddRow([Name(name), .. values.Select(Value)]);
        }
        return table;
    }

    private static Table Comparison(string label, RunComparison comparison)
    {
        Table table = new() { Border = TableBorder.Rounded, Title = new TableTitle(Markup.Escape(label)) };
        table.AddColumn("measure");
        foreach (string column in (string[])["baseline", "this run", "difference", "better/worse/equal", "p (t-test)", "p (randomisation)"]) table.AddColumn(new TableColumn(column).RightAligned());
        HashSet<string> shown = [.. Shown(comparison.Run.MetricNames)];
        foreach (MetricComparison metric in comparison.Metrics.Where(metric => shown.Contains(metric.Metric)))
            table.AddRow(Name(metric.Metric), Value(metric.Baseline), Value(metric.Run), Signed(metric.Difference), $"{metric.Wins}/{metric.Losses}/{metric.Ties}",
                Probability(metric.TTest), Probability(metric.Randomization));
        return table;
    }
}
