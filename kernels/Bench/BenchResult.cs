using System.Globalization;

namespace BgeMetal.Kernels.Bench;

/// <summary>What was measured of one case. Rates are those of the median time.</summary>
public sealed record BenchResult
{
    /// <summary>The operation: the stem or the fusion.</summary>
    public required string Op { get; init; }

    /// <summary>cpu, cuda, cublas, or cuda- and the word for one kernel of a product where each is timed.</summary>
    public required string Backend { get; init; }

    /// <summary>forward, backward or update, with the number of threads on the CPU; "roofline" for the measured limits themselves.</summary>
    public required string Mode { get; init; }

    /// <summary>fp32, bf16 or fp16.</summary>
    public required string DType { get; init; }

    /// <summary>The sizes.</summary>
    public required string Shape { get; init; }

    /// <summary>A call's time in microseconds: the 20th percentile.</summary>
    public required double P20Us { get; init; }

    /// <summary>The median.</summary>
    public required double P50Us { get; init; }

    /// <summary>The 80th percentile.</summary>
    public required double P80Us { get; init; }

    /// <summary>Bytes by formula over the median time.</summary>
    public double GigabytesPerSecond { get; init; }

    /// <summary>Operations by formula over the median time.</summary>
    public double TeraflopsPerSecond { get; init; }

    /// <summary>The time that the roofline allows over the median time, in per cent; 0 where there is no roofline.</summary>
    public double RooflinePercent { get; init; }

    /// <summary>Bytes of memory held while it was measured.</summary>
    public required long PeakBytes { get; init; }

    /// <summary>What it ran on.</summary>
    public required string Device { get; init; }

    /// <summary>The GPU's driver, or the run time on the CPU.</summary>
    public required string Driver { get; init; }

    /// <summary>Quantiles and rates from times of single calls in microseconds.</summary>
    internal static BenchResult Of(BenchCase item, string backend, string mode, List<double> timesUs, Roofline roofline, long peakBytes, string device, string driver)
    {
        timesUs.Sort();
        double Quantile(double q) => timesUs[(int)Math.Round(q * (timesUs.Count - 1))];
        (double flops, double bytes) = item.Op.Cost(item.Shape, item.DType);
        double seconds = Quantile(0.5) * 1e-6;
        return new BenchResult
        {
            Op = item.Op.Name,
            Backend = backend,
            Mode = mode,
            DType = item.TypeName,
            Shape = item.Shape.Text,
            P20Us = Round(Quantile(0.2)),
            P50Us = Round(Quantile(0.5)),
            P80Us = Round(Quantile(0.8)),
            GigabytesPerSecond = Round(bytes / seconds / 1e9),
            TeraflopsPerSecond = Round(flops / seconds / 1e12),
            RooflinePercent = Math.Round(roofline.PercentAt(flops, bytes, seconds), 1),
            PeakBytes = peakBytes,
            Device = device,
            Driver = driver,
        };
    }

    /// <summary>A measured limit as a row of its own.</summary>
    internal static BenchResult OfLimit(string op, string backend, string dtype, string shape, double gigabytesPerSecond, double teraflopsPerSecond, string device, string driver) => new()
    {
        Op = op,
        Backend = backend,
        Mode = "roofline",
        DType = dtype,
        Shape = shape,
        P20Us = 0,
        P50Us = 0,
        P80Us = 0,
        GigabytesPerSecond = Round(gigabytesPerSecond),
        TeraflopsPerSecond = Round(teraflopsPerSecond),
        PeakBytes = 0,
        Device = device,
        Driver = driver,
    };

    // Four digits that mean something.
    private static double Round(double value) => double.Parse(value.ToString("g4", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
}

/// <summary>What a machine can do at most, as measured in the same run.</summary>
/// <param name="BytesPerSecond">Bytes read and written by a copy.</param>
/// <param name="FlopsPerSecond">Multiply-adds in registers, two operations each.</param>
internal readonly record struct Roofline(double BytesPerSecond, double FlopsPerSecond)
{
    /// <summary>The share of the roofline that a call of this time reaches; 0 where nothing was measured.</summary>
    public double PercentAt(double flops, double bytes, double seconds) => BytesPerSecond <= 0 || FlopsPerSecond <= 0 ? 0
        : 100 * Math.Max(flops / FlopsPerSecond, bytes / BytesPerSecond) / seconds;
}
