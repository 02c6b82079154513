using System.Globalization;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Runtime;

/// <summary>An NVIDIA GPU of compute capability 8.0 or higher, through the driver alone. Enqueues on one stream of its own.</summary>
public sealed unsafe class CudaDevice : KernelDevice
{
    private const int MultiProcessorCount = 16, L2CacheSize = 38, ComputeCapabilityMajor = 75, ComputeCapabilityMinor = 76, MaxSharedMemoryOptIn = 97;
    private const int NonBlocking = 1, RelaxedCapture = 2;

    [ThreadStatic] private static CudaDevice? t_current;

    private readonly CudaModules _modules;
    private readonly KernelCache _cache;
    private readonly nint _context;
    private readonly int _ordinal;
    private readonly TensorMaps _maps;
    private LaunchTimes? _times;
    private bool _disposed;

    private CudaDevice(DriverApi api, int ordinal, KernelCache cache)
    {
        Products = ProductKernelNames.Parse(Environment.GetEnvironmentVariable(ProductKernelNames.Variable));
        Api = api;
        _maps = new TensorMaps(api);
        _ordinal = ordinal;
        _cache = cache;
        byte* name = stackalloc byte[256];
        api.Check(api.cuDeviceGetName(name, 256, ordinal), "ask for the GPU's name");
        Name = Marshal.PtrToStringUTF8((nint)name) ?? "";
        int major = Attribute(ComputeCapabilityMajor), minor = Attribute(ComputeCapabilityMinor);
        if (major < 8)
            throw new DeviceException(string.Create(CultureInfo.InvariantCulture, $"GPU {ordinal} ({Name}) is too old: compute capability {major}.{minor}, at least 8.0 is needed"));
        Architecture = string.Create(CultureInfo.InvariantCulture, $"sm_{major}{minor}");
        // PTX for the newest architecture that the text's language version knows; the driver compiles it for what is there.
        Target = major >= 9 ? "sm_90" : minor is 6 or 9 ? $"sm_8{minor}" : "sm_80";
        MultiProcessors = Attribute(MultiProcessorCount);
        SharedMemoryPerBlock = Attribute(MaxSharedMemoryOptIn);
        SecondLevelCacheBytes = Attribute(L2CacheSize);
        nint context = 0;
        api.Check(api.cuDevicePrimaryCtxRetain(&context, ordinal), $"open GPU {ordinal} ({Name})");
        _context = context;
        nint stream = 0;
        Bind();
        api.Check(api.cuStreamCreate(&stream, NonBlocking), "create a stream");
        Stream = stream;
        _modules = new CudaModules(this, cache);
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>The GPU's own architecture, for example sm_90.</summary>
    public string Architecture { get; }

    /// <inheritdoc/>
    public override int MultiProcessors { get; }

    /// <inheritdoc/>
    public override int SharedMemoryPerBlock { get; }

    /// <summary>The size of the second-level cache, in bytes.</summary>
    public int SecondLevelCacheBytes { get; }

    /// <summary>The CUDA version that the driver supports and, where the system tells it, the driver's own version.</summary>
    public string Driver => Api.Describe();

    /// <summary>The one stream everything is enqueued on (a CUstream).</summary>
    public nint Stream { get; }

    /// <summary>How many kernels this process had to compile; the others came from the disk.</summary>
    public int CompiledKernels => _cache.Compiled;

    internal DriverApi Api { get; }

    // sm_90a is Hopper's alone: later architectures read PTX for sm_90, but not for sm_90a.
    internal override bool HasWarpGroups => Architecture == "sm_90" && Api.KnowsWarpGroups;

    /// <summary>Whether what belongs to this device is gone already.</summary>
    internal bool IsDisposed => _disposed;

    internal string Target { get; }

    /// <summary>Opens GPU <paramref name="index"/>.</summary>
    /// <exception cref="DeviceException">There is no driver, it is too old, there is no such GPU, or it is too old.</exception>
    public static CudaDevice Open(int index = 0) => Open(DriverApi.Load(), index, new KernelCache(KernelCache.DefaultFolder()));

    /// <summary>The names of the GPUs, in the driver's order; empty where there is no driver or no GPU.</summary>
    public static IReadOnlyList<string> List()
    {
        try
        {
            DriverApi api = DriverApi.Load();
            List<string> names = [];
            byte* name = stackalloc byte[256];
            for (int i = 0, count = Count(api); i < count; i++)
                names.Add(api.cuDeviceGetName(name, 256, i) == 0 ? Marshal.PtrToStringUTF8((nint)name) ?? "" : "");
            return names;
        }
        catch (DeviceException)
        {
            return [];
        }
    }

    internal static CudaDevice Open(DriverApi api, int index, KernelCache cache)
    {
        int count = Count(api);
        if (count == 0) throw new DeviceException("the CUDA driver finds no GPU");
        if (index < 0 || index >= count)
            throw new DeviceException(string.Create(CultureInfo.InvariantCulture, $"there is no GPU {index}: this machine has {count}, numbered from 0"));
        int ordinal = 0;
        api.Check(api.cuDeviceGet(&ordinal, index), $"open GPU {index}");
        return new CudaDevice(api, ordinal, cache);
    }

    /// <summary>Free and total device memory, in bytes.</summary>
    public (long Free, long Total) MemoryInfo()
    {
        Bind();
        nuint free = 0, total = 0;
        Api.Check(Api.cuMemGetInfo(&free, &total), "ask for the free device memory");
        return ((long)free, (long)total);
    }

    /// <summary>Compiles (or reads from disk) and loads kernels side by side, so that no launch waits for one later; leaves out those of other architectures.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled; what was loaded stays.</exception>
    public void Prepare(IEnumerable<KernelDescriptor> kernels, CancellationToken cancellationToken = default) => Parallel.ForEach(kernels,
        new ParallelOptions { MaxDegreeOfParallelism = Math.Min(Environment.ProcessorCount, 8), CancellationToken = cancellationToken }, kernel =>
        {
            if (kernel.Architecture is null || HasWarpGroups) _modules.Function(kernel);
        });

    /// <summary>A kernel, loaded now or before.</summary>
    internal LoadedFunction Load(KernelDescriptor kernel) => _modules.Load(kernel);

    /// <inheritdoc/>
    public override DeviceMemory Allocate(long sizeBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeBytes);
        Bind();
        long address = 0;
        int result = Api.cuMemAlloc(&address, (nuint)Math.Max(sizeBytes, 1));
        if (result == DriverApi.OutOfMemory)
        {
            (long free, long total) = MemoryInfo();
            throw new DeviceException(string.Create(CultureInfo.InvariantCulture,
                $"out of device memory on {Name}: {sizeBytes} bytes asked for, {free} of {total} bytes free"))
            { DriverResult = result };
        }
        Api.Check(result, $"allocate {sizeBytes} bytes of device memory");
        return new DeviceMemory(this, address, sizeBytes);
    }

    /// <inheritdoc/>
    public override PinnedMemory AllocatePinned(long sizeBytes)
    {
        Bind();
        nint address = 0;
        Api.Check(Api.cuMemHostAlloc(&address, (nuint)Math.Max(sizeBytes, 1), 0), $"allocate {sizeBytes} bytes of pinned host memory");
        return new PinnedMemory(this, address, sizeBytes);
    }

    /// <inheritdoc/>
    public override void CopyToDevice(nint host, long device, long sizeBytes)
    {
        if (sizeBytes == 0) return;
        Bind();
        Api.Check(Api.cuMemcpyHtoDAsync(device, host, (nuint)sizeBytes, Stream), "copy to the device");
    }

    /// <inheritdoc/>
    public override void CopyToHost(long device, nint host, long sizeBytes)
    {
        if (sizeBytes == 0) return;
        Bind();
        Api.Check(Api.cuMemcpyDtoHAsync(host, device, (nuint)sizeBytes, Stream), "copy to the host");
    }

    /// <inheritdoc/>
    public override void Copy(long source, long target, long sizeBytes)
    {
        if (sizeBytes == 0) return;
        Bind();
        Api.Check(Api.cuMemcpyDtoDAsync(target, source, (nuint)sizeBytes, Stream), "copy on the device");
    }

    /// <inheritdoc/>
    public override void Fill(long device, byte value, long sizeBytes)
    {
        if (sizeBytes == 0) return;
        Bind();
        Api.Check(Api.cuMemsetD8Async(device, value, (nuint)sizeBytes, Stream), "fill device memory");
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        Bind();
        Api.Check(Api.cuStreamSynchronize(Stream), "finish the enqueued work");
        if (Profile is not null) _times?.Collect(Profile);
    }

    /// <inheritdoc/>
    public override DeviceMark CreateMark() => new CudaMark(this);

    private protected override DeviceGraph CaptureCore(Action enqueue)
    {
        Bind();
        Api.Check(Api.cuStreamBeginCapture(Stream, RelaxedCapture), "begin to capture a graph");
        nint graph = 0;
        int result;
        try
        {
            enqueue();
        }
        catch
        {
            if (Api.cuStreamEndCapture(Stream, &graph) == 0 && graph != 0) Api.cuGraphDestroy(graph);
            throw;
        }
        result = Api.cuStreamEndCapture(Stream, &graph);
        Api.Check(result, "capture a graph");
        return new CudaGraph(this, graph);
    }

    /// <summary>Makes the context current on the calling thread; later calls cost one comparison.</summary>
    internal void Bind()
    {
        if (ReferenceEquals(t_current, this)) return;
        Api.Check(Api.cuCtxSetCurrent(_context), "enter the GPU's context");
        t_current = this;
    }

    internal override void Free(DeviceMemory memory)
    {
        if (_disposed) return;
        Bind();
        Api.Check(Api.cuMemFree(memory.Address), "free device memory");
    }

    internal override void Free(PinnedMemory memory)
    {
        if (_disposed) return;
        Bind();
        Api.Check(Api.cuMemFreeHost(memory.Address), "free pinned host memory");
    }

    internal override TensorMap Encode(in TensorView view) => _maps.Of(view);

    private protected override void BeginTiming()
    {
        Bind();
        _times ??= new LaunchTimes(this);
        _times.Begin();
    }

    private protected override void EndTiming(string name, KernelProfile profile) => _times!.End(name);

    private protected override void LaunchCore<TArguments>(Action<TArguments> kernel, LoadedKernel loaded, GridSize grid, ref TArguments arguments)
    {
        KernelDescriptor descriptor = loaded.Descriptor;
        if (loaded.Function == 0) loaded.Function = _modules.Function(descriptor);
        Bind();
        // The argument struct is the kernel's one parameter: the driver copies it, so its address need not outlive the call.
        fixed (TArguments* pointer = &arguments)
        {
            void* parameter = pointer;
            int result = Api.cuLaunchKernel(loaded.Function, (uint)grid.X, (uint)grid.Y, (uint)grid.Z, (uint)descriptor.Threads, 1, 1,
                (uint)descriptor.SharedBytes, Stream, &parameter, null);
            if (result != 0) throw new DeviceException($"cannot launch {descriptor.Name} on {grid}: {Api.Describe(result)}") { DriverResult = result };
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (_disposed) return;
        Bind();
        Api.cuStreamSynchronize(Stream);
        _times?.Dispose();
        _modules.Unload();
        Api.cuStreamDestroy(Stream);
        Api.cuDevicePrimaryCtxRelease(_ordinal);
        t_current = null;
        _disposed = true;
    }

    private static int Count(DriverApi api)
    {
        int count = 0;
        api.Check(api.cuDeviceGetCount(&count), "count the GPUs");
        return count;
    }

    private int Attribute(int attribute)
    {
        int value = 0;
        Api.Check(Api.cuDeviceGetAttribute(&value, attribute, _ordinal), $"ask GPU {_ordinal} for attribute {attribute}");
        return value;
    }
}
