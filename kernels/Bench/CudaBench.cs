using System.Diagnostics;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>How the GPU bench measures; the defaults follow from the device.</summary>
internal sealed record CudaBenchSettings
{
    /// <summary>Seconds of measuring a case at most.</summary>
    public double Seconds { get; init; } = 0.25;

    /// <summary>Seconds of the whole run, limits included: cases get less as it runs out, and those behind its end are left out. 0 for no limit.</summary>
    public double BudgetSeconds { get; init; }

    /// <summary>The fewest samples, whatever they cost.</summary>
    public int FewestSamples { get; init; } = 11;

    /// <summary>Operands of a case are made again and again until they take so many bytes, and calls go round them: twice the second-level cache.</summary>
    public required long RotateBytes { get; init; }

    /// <summary>Bytes that the copy of the roofline reads, and as many that it writes.</summary>
    public long CopyBytes { get; init; } = 512L << 20;

    /// <summary>Iterations of the arithmetic roofline.</summary>
    public int PeakIterations { get; init; } = 4096;

    /// <summary>Elements of workspace.</summary>
    public long WorkspaceLength { get; init; } = Linear.AmpleWorkspace;

    /// <summary>On Hopper: products and attention by each kernel that can compute them too, one after the other, besides the one that is chosen.</summary>
    public bool EachKernel { get; init; }

    /// <summary>Another cuBLAS than the machine's, for tests.</summary>
    public string? CublasPath { get; init; }
}

/// <summary>
/// Times the CUDA kernels by events on the stream. Operands are random and rotated, so that no call finds its data in the second-level cache; a sample is
/// at least one round through all of them, replayed as a graph, so that short kernels are not timed at the speed of the host's launches.
/// </summary>
internal sealed class CudaBench : IDisposable
{
    // Blocks a multiprocessor in the peak kernels on registers: sixteen warps keep every unit busy.
    private const int TwoBlocks = 2;
    private const double ShortestSampleUs = 200;
    private const int MostRounds = 64, MostCopies = 64, MostSamples = 1000;

    private readonly KernelDevice _device;
    private readonly CudaBenchSettings _settings;
    private readonly DeviceClock _clock;
    private readonly DeviceMemory _workspace;
    private readonly RandomPatterns _patterns = new();
    private readonly Cublas? _cublas;
    private readonly Dictionary<DType, Roofline> _rooflines = [];
    private readonly string _driver;
    private double _bytesPerSecond, _seconds;

    /// <summary>A bench on a device, which stays the caller's.</summary>
    public CudaBench(KernelDevice device, CudaBenchSettings settings)
    {
        (_device, _settings, _clock, _seconds) = (device, settings, new DeviceClock(device), settings.Seconds);
        _workspace = device.Allocate(settings.WorkspaceLength * sizeof(float));
        _cublas = device is CudaDevice gpu ? Cublas.TryLoad(gpu, settings.CublasPath) : null;
        _driver = (device as CudaDevice)?.Driver ?? "none";
    }

    /// <summary>Whether products are measured beside cuBLAS.</summary>
    public bool HasCublas => _cublas is not null;

    /// <summary>
    /// The roofline's parts as rows: multiply-adds, tensor cores, copy bandwidth. On Hopper tensor cores have two: TensorCores by mma.sync, and WarpGroups by
    /// wgmma, which is the roof of half-precision products.
    /// </summary>
    public IEnumerable<BenchResult> Limits()
    {
        foreach (DType dtype in new[] { DType.Float32, DType.BFloat16, DType.Float16 })
        {
            if (dtype != DType.Float32 && _device.HasWarpGroups)
                yield return Limit("TensorCores", dtype, "registers", TensorCorePeak(dtype));
            yield return dtype == DType.Float32 ? Limit("MultiplyAdd", dtype, "registers", RooflineOf(dtype).FlopsPerSecond)
                : _device.HasWarpGroups ? Limit("WarpGroups", dtype, "shared memory", RooflineOf(dtype).FlopsPerSecond)
                : Limit("TensorCores", dtype, "registers", RooflineOf(dtype).FlopsPerSecond);
        }
        yield return BenchResult.OfLimit("Copy", "cuda", "fp32", $"{_settings.CopyBytes >> 20} MiB", _bytesPerSecond / 1e9, 0, _device.Name, _driver);
    }

    /// <summary>Measures a case: the kernels, each kernel of a product where that is asked for, and cuBLAS beside them where there is a peer.</summary>
    /// <exception cref="DeviceException">Its operands do not fit the device, or a kernel fails.</exception>
    public IEnumerable<BenchResult> Measure(BenchCase item) => Measure(item, _settings.Seconds);

    /// <summary>The same within <paramref name="seconds"/> of measuring.</summary>
    /// <exception cref="DeviceException">Its operands do not fit the device, or a kernel fails.</exception>
    public IEnumerable<BenchResult> Measure(BenchCase item, double seconds)
    {
        bool hasPeer = _cublas is not null && item.Op.Peer != CublasForm.None;
        IReadOnlyList<(string Name, ProductKernels Kernel)> each = KernelsOf(item);
        _seconds = seconds / (1 + (hasPeer ? 1 : 0) + each.Count);
        yield return Measure(item, "cuda", operands => item.Op.Cuda!(operands, item.Shape, item.DType));
        foreach ((string name, ProductKernels kernel) in each)
            yield return MeasureOnly(kernel, item, $"cuda-{name}");
        if (hasPeer)
            yield return Measure(item, "cublas", operands => _cublas!.Prepare(item.Op.Peer, operands, item.Shape, item.DType));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cublas?.Dispose();
        _clock.Dispose();
        _workspace.Dispose();
    }

    private Workspace Workspace => new(_workspace.Slice<FP32>(0, _settings.WorkspaceLength), _settings.WorkspaceLength);

    // Which of a case's kernels are timed besides the one that is chosen: all of a product whose rows are 16 bytes, without which all would be mma.sync, and mma.sync of an attention that
    // would take wgmma.
    private IReadOnlyList<(string Name, ProductKernels Kernel)> KernelsOf(BenchCase item) =>
        !_settings.EachKernel || !_device.HasWarpGroups || item.DType == DType.Float32 ? []
        : item.Op.IsProduct ? ((item.Shape["K"] | item.Shape["N"]) & 7) == 0 ? ProductKernelNames.All : []
        : item.Op.HasWarpGroupAttention && item.Shape["Dh"] <= 64 ? [ProductKernelNames.All[0]] : [];

    private BenchResult MeasureOnly(ProductKernels kernel, BenchCase item, string backend)
    {
        ProductKernels before = _device.Products;
        _device.Products = kernel;
        try
        {
            return Measure(item, backend, operands => item.Op.Cuda!(operands, item.Shape, item.DType));
        }
        finally
        {
            _device.Products = before;
        }
    }

    private BenchResult Measure(BenchCase item, string backend, Func<CudaOperands, Action> prepare)
    {
        Roofline roofline = RooflineOf(item.DType);
        using CudaOperands operands = new(_device, Workspace, _patterns);
        List<Action> calls = [];
        // At least two sets, so that no call reads what the call before it wrote.
        while (calls.Count < 2 || (operands.SizeBytes < _settings.RotateBytes && calls.Count < MostCopies)) calls.Add(prepare(operands));
        List<double> times = Sample(calls);
        return BenchResult.Of(item, backend, item.Op.Mode, times, roofline, operands.SizeBytes + _workspace.SizeBytes, _device.Name, _driver);
    }

    private BenchResult Limit(string op, DType dtype, string operands, double flopsPerSecond) =>
        BenchResult.OfLimit(op, "cuda", BenchCase.NameOf(dtype), operands, 0, flopsPerSecond / 1e12, _device.Name, _driver);

    private List<double> Sample(List<Action> calls)
    {
        // The first round loads the kernels, which a capture does not allow.
        foreach (Action call in calls) call();
        _device.Synchronize();
        int rounds = 1;
        void Round()
        {
            foreach (Action call in calls) call();
        }
        double once = _device is CudaDevice ? _clock.TimeUs(Round) : ShortestSampleUs;
        rounds = (int)Math.Clamp(Math.Ceiling(ShortestSampleUs / Math.Max(once, 0.1)), 1, MostRounds);
        void Rounds()
        {
            for (int i = 0; i < rounds; i++) Round();
        }
        using DeviceGraph? graph = (_device as CudaDevice)?.Capture(Rounds);
        Action sample = graph is null ? Rounds : graph.Replay;
        if (graph is not null) sample();
        List<double> times = [];
        long begin = Stopwatch.GetTimestamp();
        while (times.Count < _settings.FewestSamples || (Stopwatch.GetElapsedTime(begin).TotalSeconds < _seconds && times.Count < MostSamples))
            times.Add(_clock.TimeUs(sample) / (rounds * calls.Count));
        return times;
    }

    private Roofline RooflineOf(DType dtype)
    {
        if (_rooflines.TryGetValue(dtype, out Roofline known)) return known;
        if (_bytesPerSecond == 0) _bytesPerSecond = 2 * _settings.CopyBytes / MedianSeconds(Copy());
        double flops = dtype == DType.Float32 ? Peak(PeakKernels.MultiplyAdd, BitConverter.SingleToUInt32Bits(0.5f), 0, PeakKernels.MultiplyAddFlops, TwoBlocks)
            : _device.HasWarpGroups ? WarpGroupPeak(dtype) : TensorCorePeak(dtype);
        return _rooflines[dtype] = new Roofline(_bytesPerSecond, flops);
    }

    private Func<CudaOperands, Action> Copy() => operands =>
    {
        long source = operands.Values<FP32>(_settings.CopyBytes / sizeof(float)).Address, target = operands.Reserve<FP32>(_settings.CopyBytes / sizeof(float)).Address;
        return () => _device.Copy(source, target, _settings.CopyBytes);
    };

    private double TensorCorePeak(DType dtype) => dtype == DType.BFloat16
        ? Peak(PeakKernels.TensorCores<BF16>, Pair(BF16.ToBits(0.5f)), 0, PeakKernels.TensorFlops, TwoBlocks)
        : Peak(PeakKernels.TensorCores<FP16>, Pair(FP16.ToBits(0.5f)), 0, PeakKernels.TensorFlops, TwoBlocks);

    // One block's two groups of warps keep the tensor cores busy, and take more registers than half of what there is.
    private double WarpGroupPeak(DType dtype) => dtype == DType.BFloat16
        ? Peak(PeakKernels.WarpGroups<BF16>, Pair(BF16.ToBits(0.5f)), PeakKernels.NoiseBF16, PeakKernels.WarpGroupFlops, 1)
        : Peak(PeakKernels.WarpGroups<FP16>, Pair(FP16.ToBits(0.5f)), PeakKernels.NoiseFP16, PeakKernels.WarpGroupFlops, 1);

    private double Peak(Action<PeakArguments> kernel, uint operand, uint noise, double blockFlops, int blocksPerMultiprocessor)
    {
        int blocks = blocksPerMultiprocessor * _device.MultiProcessors;
        double seconds = MedianSeconds(operands =>
        {
            PeakArguments arguments = new() { Result = operands.Reserve<FP32>((long)blocks * PeakKernels.Threads), Iterations = _settings.PeakIterations, Operand = operand, Noise = noise };
            return () => _device.Launch(kernel, new GridSize(blocks), arguments);
        });
        return blocks * blockFlops * _settings.PeakIterations / seconds;
    }

    private double MedianSeconds(Func<CudaOperands, Action> prepare)
    {
        using CudaOperands operands = new(_device, Workspace, _patterns);
        List<double> times = Sample([prepare(operands)]);
        times.Sort();
        return times[times.Count / 2] * 1e-6;
    }

    private static uint Pair(uint bits) => bits | bits << 16;
}
