using System.Diagnostics;
using System.Globalization;
using BgeMetal.Kernels.Simd;
using CsvHelper;
using CsvHelper.Configuration;
using CsvHelper.Configuration.Attributes;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>One line of results/kernels.csv.</summary>
internal sealed record KernelRow
{
    [Name("op")] public required string Op { get; init; }
    [Name("backend")] public string Backend { get; init; } = "cpu";
    [Name("mode")] public required string Mode { get; init; }
    [Name("dtype")] public string DType { get; init; } = "f32";
    [Name("shape")] public required string Shape { get; init; }
    [Name("p20_us")] public required double P20 { get; init; }
    [Name("p50_us")] public required double P50 { get; init; }
    [Name("p80_us")] public required double P80 { get; init; }
    [Name("gb_s")] public required double GigabytesPerSecond { get; init; }
    [Name("tflop_s")] public required double TeraflopsPerSecond { get; init; }
    [Name("roofline_percent")] public required double RooflinePercent { get; init; }
    [Name("peak_bytes")] public required long PeakBytes { get; init; }
    [Name("device")] public string Device { get; init; } = DeviceName();
    [Name("driver")] public string Driver { get; init; } = System.Runtime.InteropServices.RuntimeInformation.FrameworkDescription;
    [Name("commit")] public string Commit { get; init; } = CommitName();
    [Name("date")] public string Date { get; init; } = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);

    /// <summary>Appends rows to a file, with a header line when the file is new.</summary>
    public static void Append(string path, IReadOnlyCollection<KernelRow> rows)
    {
        bool isNew = !File.Exists(path);
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        using StreamWriter stream = new(path, append: true);
        using CsvWriter csv = new(stream, new CsvConfiguration(CultureInfo.InvariantCulture) { HasHeaderRecord = isNew, NewLine = "\n" });
        csv.WriteRecords(rows);
    }

    private static string DeviceName()
    {
        string name = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[^1].Trim() ?? "?" : "?";
        return $"{name} ({Environment.ProcessorCount} cores, {VectorUnit.Description})";
    }

    private static string CommitName()
    {
        try
        {
            using Process git = Process.Start(new ProcessStartInfo("git", "rev-parse --short HEAD") { RedirectStandardOutput = true, RedirectStandardError = true })!;
            return git.StandardOutput.ReadToEnd().Trim();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "";
        }
    }
}
