using System.Globalization;
using BgeMetal.Files;
using ScottPlot;

namespace BgeMetal.Reports;

/// <summary>The roofline of a device with the kernels below it, drawn from kernels.csv (Williams, Waterman and Patterson, 2009).</summary>
public static class RooflinePlot
{
    /// <summary>
    /// Draws the newest measurement of each kernel on the device of the file's last line: operations a byte across, operations a second upward, both
    /// logarithmic, under the copy bandwidth and the arithmetic peaks of the same device. Kernels that only move bytes have no place in it.
    /// </summary>
    /// <param name="csvPath">kernels.csv.</param>
    /// <param name="pngPath">The picture; it appears whole or not at all.</param>
    /// <exception cref="BgeMetalException">The file cannot be read, or holds no roofline or no kernel that computes.</exception>
    public static void Write(string csvPath, string pngPath)
    {
        IReadOnlyList<KernelResultRow> all = KernelResults.Read(csvPath);
        string? device = all.Count == 0 ? null : all[^1].Device;
        List<KernelResultRow> rows = [.. all.Where(row => row.Device == device).GroupBy(row => row.Subject).Select(same => same.Last())];
        List<KernelResultRow> kernels = [.. rows.Where(row => !row.IsLimit && row.TeraflopsPerSecond > 0 && row.GigabytesPerSecond > 0)];
        List<KernelResultRow> limits = [.. rows.Where(row => row.IsLimit)];
        double bandwidth = limits.Select(row => row.GigabytesPerSecond).DefaultIfEmpty().Max() / 1000;
        if (bandwidth == 0 || kernels.Count == 0)
            throw new BgeMetalException("cannot draw the roofline", "the file holds no measured copy bandwidth, or no kernel that computes, for its last device", csvPath);

        Plot plot = new();
        plot.Title(device ?? "");
        plot.XLabel("FLOP per byte");
        plot.YLabel("TFLOP/s");
        double left = kernels.Min(Intensity) / 2, right = kernels.Max(Intensity) * 2;
        foreach (KernelResultRow limit in limits.Where(row => row.TeraflopsPerSecond > 0))
        {
            double ridge = limit.TeraflopsPerSecond / bandwidth;
            Coordinates[] roof = [.. new[] { left, Math.Clamp(ridge, left, right), right }.Select(x => At(x, Math.Min(limit.TeraflopsPerSecond, x * bandwidth)))];
            ScottPlot.Plottables.Scatter line = plot.Add.Scatter(roof);
            line.MarkerSize = 0;
            line.LegendText = string.Create(CultureInfo.InvariantCulture, $"{limit.Op} {limit.DType}: {limit.TeraflopsPerSecond:g3} TFLOP/s");
        }
        foreach (IGrouping<string, KernelResultRow> group in kernels.GroupBy(row => $"{row.Backend} {row.DType}").OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            ScottPlot.Plottables.Scatter points = plot.Add.Scatter(group.Select(row => At(Intensity(row), row.TeraflopsPerSecond)).ToArray());
            points.LineWidth = 0;
            points.MarkerSize = 6;
            points.LegendText = $"{group.Key}: {group.Count()} kernels and shapes";
        }
        plot.Axes.Bottom.TickGenerator = PowersOfTen();
        plot.Axes.Left.TickGenerator = PowersOfTen();
        plot.ShowLegend(Alignment.LowerRight);
        AtomicFile.WriteAllBytes(pngPath, plot.GetImage(1100, 700).GetImageBytes());
    }

    private static double Intensity(KernelResultRow row) => row.TeraflopsPerSecond * 1000 / row.GigabytesPerSecond;

    private static Coordinates At(double x, double y) => new(Math.Log10(x), Math.Log10(y));

    private static ScottPlot.TickGenerators.NumericAutomatic PowersOfTen() => new()
    {
        MinorTickGenerator = new ScottPlot.TickGenerators.LogMinorTickGenerator(),
        IntegerTicksOnly = true,
        LabelFormatter = static exponent => Math.Pow(10, exponent).ToString("0.########", CultureInfo.InvariantCulture),
    };
}
