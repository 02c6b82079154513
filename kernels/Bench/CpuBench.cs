using System.Diagnostics;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// Times the CPU's kernels. Short calls are timed in batches of at least 50 microseconds; the multiply-add peak is measured beside each case, because the
/// clock follows the machine's other load, and the copy bandwidth for as many bytes as the operands take. With one thread on Linux the thread's own
/// processor time counts, else the wall clock.
/// </summary>
internal sealed class CpuBench : IDisposable
{
    private const double ShortestSample = 50e-6;
    private const int FewestSamples = 7, MostSamples = 2000;

    private readonly WorkerTeam _team;
    private readonly CpuCopy _copy;
    private readonly double _seconds;
    private double _peak;

    /// <summary>A bench of so many threads that spends about <paramref name="seconds"/> on a case.</summary>
    public CpuBench(int threads, double seconds)
    {
        _team = new WorkerTeam(threads);
        _copy = new CpuCopy(_team);
        _seconds = seconds;
        _peak = CpuPeak.FlopsPerSecond(_team);
    }

    /// <summary>The processor's name, its cores and the vector width in use.</summary>
    public static string DeviceName { get; } = $"{ProcessorName()} ({Environment.ProcessorCount} cores, {VectorUnit.Description})";

    /// <summary>What the roofline is made of: rows for the copy bandwidth from memory and from a cache-sized piece, and for the multiply-add peak.</summary>
    public IEnumerable<BenchResult> Limits()
    {
        foreach (int megabytes in new[] { 1, 256 })
            yield return Limit("Copy", $"{megabytes} MiB", _copy.BytesPerSecond(megabytes << 20) / 1e9, 0);
        yield return Limit("MultiplyAdd", "registers", 0, _peak / 1e12);
    }

    /// <summary>Makes the operands, warms up, and measures.</summary>
    public BenchResult Measure(BenchCase item)
    {
        using CpuOperands operands = new() { Team = _team };
        Action<WorkerTeam> call = item.Op.Cpu!(operands, item.Shape);
        double peak = CpuPeak.FlopsPerSecond(_team, 5);
        call(_team);
        List<double> times = Sample(call);
        peak = Math.Max(peak, CpuPeak.FlopsPerSecond(_team, 5));
        _peak = Math.Max(_peak, peak);
        Roofline roofline = new(_copy.BytesPerSecond(operands.SizeBytes), peak);
        return BenchResult.Of(item, "cpu", Mode(item.Op.Mode), times, roofline, NativeBuffer.AllocatedBytes, DeviceName, RuntimeInformation.FrameworkDescription);
    }

    /// <inheritdoc/>
    public void Dispose() => _team.Dispose();

    private List<double> Sample(Action<WorkerTeam> call)
    {
        List<double> times = [];
        long begin = Stopwatch.GetTimestamp();
        int batch = 1;
        while (times.Count < FewestSamples || (Stopwatch.GetElapsedTime(begin).TotalSeconds < _seconds && times.Count < MostSamples))
        {
            double start = CpuClock.Now(_team.Threads);
            for (int i = 0; i < batch; i++) call(_team);
            double seconds = CpuClock.Now(_team.Threads) - start;
            if (seconds < ShortestSample && batch < 10_000)
            {
                batch *= 2;
                times.Clear();
            }
            else
            {
                times.Add(seconds / batch * 1e6);
            }
        }
        return times;
    }

    private BenchResult Limit(string op, string shape, double gigabytesPerSecond, double teraflopsPerSecond) =>
        BenchResult.OfLimit(op, "cpu", "fp32", $"{shape}, {Threads}", gigabytesPerSecond, teraflopsPerSecond, DeviceName, RuntimeInformation.FrameworkDescription);

    private string Mode(string pass) => $"{pass}, {Threads}";

    private string Threads => _team.Threads == 1 ? "1 thread" : $"{_team.Threads} threads";

    private static string ProcessorName() => File.Exists("/proc/cpuinfo")
        ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[^1].Trim() ?? "CPU"
        : RuntimeInformation.ProcessArchitecture.ToString();
}
