using System.Runtime.InteropServices;
using BgeMetal.Kernels.Primitives;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// Runs the CUDA kernels on the CPU, every lane a thread, for tests and for debugging kernels: thousands of times slower than a GPU. Kernels run at
/// once, in the calling thread's time. What a GPU refuses inside of a graph is refused here too.
/// </summary>
public sealed unsafe class EmulatedDevice : KernelDevice
{
    private const int Alignment = 256;
    private readonly Context _context = PtxCompiler.CreateContext();
    private readonly CPUAccelerator _accelerator;
    private readonly Dictionary<int, CPUAccelerator> _clusters = [];
    private readonly int _warps;
    private List<Action>? _recording;

    /// <summary>Makes a device whose blocks have up to <paramref name="warps"/> (a power of two) warps of 32 lanes.</summary>
    public EmulatedDevice(int warps = 8)
    {
        _warps = warps;
        _accelerator = new CPUDevice(32, warps, 1).CreateCPUAccelerator(_context, CPUAcceleratorMode.Parallel);
    }

    /// <inheritdoc/>
    public override string Name => "emulated";

    /// <inheritdoc/>
    public override int MultiProcessors => 4;

    /// <inheritdoc/>
    public override int SharedMemoryPerBlock => 227 * 1024;

    // Warp-group products come in blocks of twelve warps.
    internal override bool HasWarpGroups => _warps >= 12;

    /// <inheritdoc/>
    public override DeviceMemory Allocate(long sizeBytes) => new(NotRecording("allocate"), (long)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), Alignment), sizeBytes);

    /// <inheritdoc/>
    public override PinnedMemory AllocatePinned(long sizeBytes) => new(NotRecording("allocate"), (nint)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), Alignment), sizeBytes);

    /// <inheritdoc/>
    public override void CopyToDevice(nint host, long device, long sizeBytes) => Do(() => Buffer.MemoryCopy((void*)host, (void*)device, sizeBytes, sizeBytes));

    /// <inheritdoc/>
    public override void CopyToHost(long device, nint host, long sizeBytes) => Do(() => Buffer.MemoryCopy((void*)device, (void*)host, sizeBytes, sizeBytes));

    /// <inheritdoc/>
    public override void Copy(long source, long target, long sizeBytes) => Do(() => Buffer.MemoryCopy((void*)source, (void*)target, sizeBytes, sizeBytes));

    /// <inheritdoc/>
    public override void Fill(long device, byte value, long sizeBytes) => Do(() => NativeMemory.Fill((void*)device, (nuint)sizeBytes, value));

    /// <inheritdoc/>
    public override void Synchronize() => NotRecording("wait")._accelerator.Synchronize();

    private protected override DeviceGraph CaptureCore(Action enqueue)
    {
        NotRecording("capture a graph");
        List<Action> steps = [];
        _recording = steps;
        try
        {
            enqueue();
        }
        finally
        {
            _recording = null;
        }
        return new EmulatedGraph(steps);
    }

    internal override void Free(DeviceMemory memory) => NativeMemory.AlignedFree((void*)memory.Address);

    internal override void Free(PinnedMemory memory) => NativeMemory.AlignedFree((void*)memory.Address);

    private protected override void LaunchCore<TArguments>(Action<TArguments> kernel, LoadedKernel loaded, GridSize grid, ref TArguments arguments)
    {
        KernelDescriptor descriptor = loaded.Descriptor;
        CPUAccelerator accelerator = descriptor.ClusterBlocks == 1 ? _accelerator : ForClusters(descriptor.ClusterBlocks);
        loaded.Launcher ??= accelerator.LoadStreamKernel(kernel);
        Index3D blocks = descriptor.ClusterBlocks == 1 ? new(grid.X, grid.Y, grid.Z) : new(descriptor.ClusterBlocks, 1, 1), threads = new(descriptor.Threads, 1, 1);
        KernelConfig config = descriptor.SharedBytes == 0 ? new(blocks, threads)
            : new(blocks, threads, SharedMemoryConfig.RequestDynamic<byte>(descriptor.SharedBytes));
        Action<KernelConfig, TArguments> launch = (Action<KernelConfig, TArguments>)loaded.Launcher;
        TArguments values = arguments;
        void Launch()
        {
            launch(config, values);
            accelerator.Synchronize();
        }
        Do(descriptor.ClusterBlocks == 1 ? Launch : () => EmulatedCluster.Run(grid.X / descriptor.ClusterBlocks, descriptor.ClusterBlocks, Launch));
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _accelerator.Dispose();
        foreach (CPUAccelerator accelerator in _clusters.Values) accelerator.Dispose();
        _context.Dispose();
    }

    // The other runs one block after another.
    private CPUAccelerator ForClusters(int blocks)
    {
        if (!_clusters.TryGetValue(blocks, out CPUAccelerator? accelerator))
            _clusters.Add(blocks, accelerator = new CPUDevice(32, _warps, blocks).CreateCPUAccelerator(_context, CPUAcceleratorMode.Parallel));
        return accelerator;
    }

    /// <summary>At once, or when the graph that is being recorded is replayed.</summary>
    private void Do(Action step)
    {
        if (_recording is null) step();
        else _recording.Add(step);
    }

    private EmulatedDevice NotRecording(string action) =>
        _recording is null ? this : throw new DeviceException($"cannot {action} while a graph is being captured");
}
