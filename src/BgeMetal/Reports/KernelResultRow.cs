using System.Globalization;
using BgeMetal.Kernels.Bench;
using CsvHelper.Configuration.Attributes;

namespace BgeMetal.Reports;

/// <summary>One line of kernels.csv.</summary>
internal sealed record KernelResultRow
{
    [Name("op")] public required string Op { get; init; }

    [Name("backend")] public required string Backend { get; init; }

    [Name("mode")] public required string Mode { get; init; }

    [Name("dtype")] public required string DType { get; init; }

    [Name("shape")] public required string Shape { get; init; }

    [Name("p20_us")] public required double P20Us { get; init; }

    [Name("p50_us")] public required double P50Us { get; init; }

    [Name("p80_us")] public required double P80Us { get; init; }

    [Name("gb_s")] public required double GigabytesPerSecond { get; init; }

    [Name("tflop_s")] public required double TeraflopsPerSecond { get; init; }

    [Name("roofline_percent")] public required double RooflinePercent { get; init; }

    [Name("peak_bytes")] public required long PeakBytes { get; init; }

    [Name("device")] public required string Device { get; init; }

    [Name("driver")] public required string Driver { get; init; }

    [Name("commit")] public required string Commit { get; init; }

    [Name("date")] public required string Date { get; init; }

    /// <summary>What names the same measurement, whenever it was taken.</summary>
    [Ignore] public string Subject => string.Join('|', Op, Backend, Mode, DType, Shape, Device);

    /// <summary>True for a measured limit, false for a measured call.</summary>
    [Ignore] public bool IsLimit => Mode == "roofline";

    public static KernelResultRow Of(BenchResult result, string commit, DateTime date) => new()
    {
        Op = result.Op,
        Backend = result.Backend,
        Mode = result.Mode,
        DType = result.DType,
        Shape = result.Shape,
        P20Us = result.P20Us,
        P50Us = result.P50Us,
        P80Us = result.P80Us,
        GigabytesPerSecond = result.GigabytesPerSecond,
        TeraflopsPerSecond = result.TeraflopsPerSecond,
        RooflinePercent = result.RooflinePercent,
        PeakBytes = result.PeakBytes,
        Device = result.Device,
        Driver = result.Driver,
        Commit = commit,
        Date = date.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
    };
}
