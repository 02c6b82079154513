using System.Diagnostics;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>How much a probe does; the defaults are for a GPU.</summary>
public sealed record ProbeSettings
{
    /// <summary>Only load the kernels: for the second process, which shows what the caches are worth.</summary>
    public bool LoadsOnly { get; init; }

    /// <summary>Launches that the cost of one is taken from.</summary>
    public int Launches { get; init; } = 10_000;

    /// <summary>Launches of a captured graph.</summary>
    public int GraphLaunches { get; init; } = 1000;

    /// <summary>Bytes of a copy between host and device.</summary>
    public long CopyBytes { get; init; } = 256L << 20;

    /// <summary>How often a copy is taken; the best counts.</summary>
    public int Copies { get; init; } = 5;

    /// <summary>What the kernels cost by the assembler's account.</summary>
    public AssembledTable Costs { get; init; } = new();

    /// <summary>The settings of the roofline; null for a GPU's own.</summary>
    internal CudaBenchSettings? Limits { get; init; }

    /// <summary>The kernels to load; null for all.</summary>
    internal IReadOnlyList<KernelDescriptor>? Kernels { get; init; }
}

/// <summary>
/// The first minutes on a GPU: whether the driver takes every kernel and what it makes of it, whether blocks get much shared memory and a product on the tensor
/// cores is right, what launches, graphs and copies cost, what the chip can do. Each part stands alone: one that fails is listed, and the next goes on.
/// </summary>
public sealed partial class DeviceProbe
{
    private readonly KernelDevice _device;
    private readonly ProbeSettings _settings;
    private readonly List<ProbeFact> _facts = [];
    private readonly List<ProbeFailure> _failures = [];
    private IReadOnlyList<KernelLoad> _kernels = [];

    private DeviceProbe(KernelDevice device, ProbeSettings settings) => (_device, _settings) = (device, settings);

    /// <summary>Opens a GPU and probes it.</summary>
    /// <exception cref="DeviceException">It does not open.</exception>
    public static ProbeReport Run(int index, ProbeSettings settings, Action<string> progress)
    {
        ArgumentNullException.ThrowIfNull(settings);
        long begin = Stopwatch.GetTimestamp();
        using CudaDevice device = CudaDevice.Open(index);
        return Run(device, settings, progress, Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
    }

    internal static ProbeReport Run(KernelDevice device, ProbeSettings settings, Action<string> progress, double openMs)
    {
        DeviceProbe probe = new(device, settings);
        probe.Add("device", "open", openMs, "ms");
        CudaDevice? gpu = device as CudaDevice;
        (string Name, Action Part)[] parts =
        [
            ("device", () => probe.Describe(gpu)),
            ("kernels", () => probe.LoadKernels(gpu)),
            ("product on tensor cores", probe.Product),
            ("launches", probe.LaunchCost),
            ("graphs", () => probe.GraphCost(gpu)),
            ("copies", probe.CopyRates),
            ("limits", probe.Limits),
        ];
        foreach ((string name, Action part) in settings.LoadsOnly ? parts[..2] : parts)
        {
            progress($"probing: {name}");
            probe.Try(name, part);
        }
        return new ProbeReport
        {
            Device = device.Name,
            Architecture = gpu?.Architecture ?? "emulated",
            Driver = gpu?.Driver ?? "none",
            Facts = probe._facts,
            Kernels = probe._kernels,
            Failures = probe._failures,
        };
    }

    private void Add(string group, string name, double value, string unit = "") => _facts.Add(new(group, name, value, unit));

    private void Fail(string part, string message) => _failures.Add(new(part, message));

    private void Try(string part, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is DeviceException or ILGPU.InternalCompilerException or AggregateException or NotSupportedException or InvalidOperationException or EntryPointNotFoundException)
        {
            Fail(part, e.Message);
        }
    }
}
