using System.Globalization;
using System.Text.RegularExpressions;
using ScottPlot;

namespace BgeMetal.Cli.Evaluation;

/// <summary>The pictures of an evaluation's page, as SVG.</summary>
internal static partial class EvaluationPlots
{
    private const int Width = 620, Height = 300;
    private const int Bins = 20;
    private const int MostPoints = 1000;

    /// <summary>How many queries have which value of a measure between 0 and 1.</summary>
    public static string Histogram(string measure, IReadOnlyList<double> values)
    {
        double[] counts = new double[Bins];
        foreach (double value in values) counts[Math.Clamp((int)(value * Bins), 0, Bins - 1)]++;
        Plot plot = new();
        plot.XLabel(measure);
        plot.YLabel("queries");
        Bar[] bars = [.. counts.Select((count, i) => new Bar { Position = (i + 0.5) / Bins, Value = count, Size = 0.9 / Bins, FillColor = Colors.SteelBlue, LineWidth = 0 })];
        plot.Add.Bars(bars);
        plot.Axes.SetLimits(0, 1, 0, Math.Max(1, counts.Max() * 1.05));
        return Svg(plot);
    }

    /// <summary>A measure's differences, a query each, the best first: what was won above the line, what was lost below it.</summary>
    public static string Differences(string measure, IReadOnlyList<double> differences)
    {
        double[] sorted = [.. differences.OrderDescending()];
        int points = Math.Min(sorted.Length, MostPoints);
        Plot plot = new();
        plot.XLabel("queries, the most improved first");
        plot.YLabel($"difference of {measure}");
        Bar[] bars = [.. Enumerable.Range(0, points).Select(i => (int)((long)i * sorted.Length / points)).Where(query => sorted[query] != 0).Select(query => new Bar
        {
            Position = query,
            Value = sorted[query],
            Size = (double)sorted.Length / points,
            FillColor = sorted[query] < 0 ? Colors.IndianRed : Colors.SeaGreen,
            LineWidth = 0,
        })];
        plot.Add.Bars(bars);
        plot.Add.HorizontalLine(0, 1, Colors.Black);
        double reach = Math.Max(0.05, sorted.Max(Math.Abs) * 1.05);
        plot.Axes.SetLimits(-0.5, sorted.Length - 0.5, -reach, reach);
        return Svg(plot);
    }

    /// <summary>The picture. Its library numbers names through the life of the process; here they begin anew, so that the same picture has the same bytes.</summary>
    private static string Svg(Plot plot)
    {
        Dictionary<string, string> names = new(StringComparer.Ordinal);
        return GeneratedName().Replace(plot.GetSvgXml(Width, Height), match =>
        {
            if (!names.TryGetValue(match.Value, out string? name)) names[match.Value] = name = string.Create(CultureInfo.InvariantCulture, $"cl_{names.Count}");
            return name;
        });
    }

    [GeneratedRegex(@"\bcl_[0-9a-f]+\b")]
    private static partial Regex GeneratedName();
}
