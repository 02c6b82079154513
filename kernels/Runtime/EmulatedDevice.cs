using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// Runs the CUDA kernels on the CPU, every lane a thread, for tests and for debugging kernels: thousands of times slower than a GPU. Kernels run at
/// once, in the calling thread's time.
/// </summary>
public sealed unsafe class EmulatedDevice : KernelDevice
{
    private const int Alignment = 256;
    private readonly Context _context = PtxCompiler.CreateContext();
    private readonly Dictionary<KernelDescriptor, Delegate> _launchers = [];
    private readonly CPUAccelerator _accelerator;
    private readonly int _warps;

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
    public override DeviceMemory Allocate(long sizeBytes) => new(this, (long)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), Alignment), sizeBytes);

    /// <inheritdoc/>
    public override PinnedMemory AllocatePinned(long sizeBytes) => new(this, (nint)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), Alignment), sizeBytes);

    /// <inheritdoc/>
    public override void CopyToDevice(nint host, long device, long sizeBytes) => Buffer.MemoryCopy((void*)host, (void*)device, sizeBytes, sizeBytes);

    /// <inheritdoc/>
    public override void CopyToHost(long device, nint host, long sizeBytes) => Buffer.MemoryCopy((void*)device, (void*)host, sizeBytes, sizeBytes);

    /// <inheritdoc/>
    public override void Copy(long source, long target, long sizeBytes) => Buffer.MemoryCopy((void*)source, (void*)target, sizeBytes, sizeBytes);

    /// <inheritdoc/>
    public override void Fill(long device, byte value, long sizeBytes) => NativeMemory.Fill((void*)device, (nuint)sizeBytes, value);

    /// <inheritdoc/>
    public override void Synchronize() => _accelerator.Synchronize();

    internal override void Free(DeviceMemory memory) => NativeMemory.AlignedFree((void*)memory.Address);

    internal override void Free(PinnedMemory memory) => NativeMemory.AlignedFree((void*)memory.Address);

    private protected override void LaunchCore<TArguments>(Action<TArguments> kernel, KernelDescriptor descriptor, GridSize grid, ref TArguments arguments)
    {
        if (!_launchers.TryGetValue(descriptor, out Delegate? launcher))
            _launchers.Add(descriptor, launcher = _accelerator.LoadStreamKernel(kernel));
        Index3D blocks = new(grid.X, grid.Y, grid.Z), threads = new(descriptor.Threads, 1, 1);
        KernelConfig config = descriptor.SharedBytes == 0 ? new(blocks, threads)
            : new(blocks, threads, SharedMemoryConfig.RequestDynamic<byte>(descriptor.SharedBytes));
        ((Action<KernelConfig, TArguments>)launcher)(config, arguments);
        _accelerator.Synchronize();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _accelerator.Dispose();
        _context.Dispose();
    }
}
