using System.Diagnostics;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <content>What launches, graphs and copies cost, and what the chip can do.</content>
public sealed unsafe partial class DeviceProbe
{
    private const double Giga = 1e9;

    /// <summary>One block that only stores: next to nothing but the launch.</summary>
    private void Empty(Action<Action> use)
    {
        using CudaOperands operands = new(_device, default, new RandomPatterns(1));
        PeakArguments arguments = new() { Result = operands.Reserve<FP32>(PeakKernels.Threads), Iterations = 0 };
        void Launch() => _device.Launch(PeakKernels.MultiplyAdd, new GridSize(1), arguments);
        Launch();
        _device.Synchronize();
        use(Launch);
    }

    private void LaunchCost() => Empty(launch =>
    {
        using DeviceClock clock = new(_device);
        double hostUs = 0;
        double deviceUs = clock.TimeUs(() =>
        {
            long begin = Stopwatch.GetTimestamp();
            for (int i = 0; i < _settings.Launches; i++) launch();
            hostUs = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        });
        Add("launches", "host, each of a row", hostUs / _settings.Launches, "us");
        Add("launches", "device, each of a row", deviceUs / _settings.Launches, "us");
        Add("launches", "launch and wait", Median(_settings.Copies * 20, () =>
        {
            launch();
            _device.Synchronize();
        }), "us");
    });

    private void GraphCost(CudaDevice? gpu)
    {
        if (gpu is null) return;
        Empty(launch =>
        {
            long begin = Stopwatch.GetTimestamp();
            using DeviceGraph graph = gpu.Capture(() =>
            {
                for (int i = 0; i < _settings.GraphLaunches; i++) launch();
            });
            Add("graphs", "capture and prepare, each launch", Stopwatch.GetElapsedTime(begin).TotalMicroseconds / _settings.GraphLaunches, "us");
            graph.Replay();
            _device.Synchronize();
            Add("graphs", "host, a replay of all", Median(_settings.Copies, graph.Replay), "us");
            _device.Synchronize();
            using DeviceClock clock = new(_device);
            Add("graphs", "device, each launch", Enumerable.Range(0, _settings.Copies).Min(_ => clock.TimeUs(graph.Replay)) / _settings.GraphLaunches, "us");
        });
    }

    private void CopyRates()
    {
        long bytes = _settings.CopyBytes;
        using DeviceMemory memory = _device.Allocate(bytes);
        using PinnedMemory pinned = _device.AllocatePinned(bytes);
        nint pageable = (nint)NativeMemory.AllocZeroed((nuint)bytes);
        try
        {
            NativeMemory.Fill((void*)pinned.Address, (nuint)bytes, 1);
            NativeMemory.Fill((void*)pageable, (nuint)bytes, 1);
            foreach ((string name, nint host) in new[] { ("pinned", pinned.Address), ("pageable", pageable) })
            {
                Add("copies", $"to the device, {name}", Rate(() => _device.CopyToDevice(host, memory.Address, bytes)), "GB/s");
                Add("copies", $"to the host, {name}", Rate(() => _device.CopyToHost(memory.Address, host, bytes)), "GB/s");
            }
        }
        finally
        {
            NativeMemory.Free((void*)pageable);
        }
    }

    // By the wall clock to the end: a pageable copy is the host's work in part.
    private double Rate(Action copy) => _settings.CopyBytes / Giga / (1e-6 * Enumerable.Range(0, _settings.Copies).Min(_ =>
    {
        long begin = Stopwatch.GetTimestamp();
        copy();
        _device.Synchronize();
        return Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
    }));

    private void Limits()
    {
        CudaBenchSettings settings = _settings.Limits ?? new CudaBenchSettings { RotateBytes = 2L * ((CudaDevice)_device).SecondLevelCacheBytes };
        using CudaBench bench = new(_device, settings);
        Add("limits", "cuBLAS found", bench.HasCublas ? 1 : 0);
        foreach (BenchResult limit in bench.Limits())
            Add("limits", $"{limit.Op} {limit.DType} {limit.Shape}", limit.TeraflopsPerSecond > 0 ? limit.TeraflopsPerSecond : limit.GigabytesPerSecond, limit.TeraflopsPerSecond > 0 ? "TFLOP/s" : "GB/s");
    }

    private static double Median(int count, Action action)
    {
        List<double> times = [];
        for (int i = 0; i < count; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            action();
            times.Add(Stopwatch.GetElapsedTime(begin).TotalMicroseconds);
        }
        times.Sort();
        return times[times.Count / 2];
    }
}
