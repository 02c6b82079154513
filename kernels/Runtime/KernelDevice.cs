using System.Diagnostics;
using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Runtime;

/// <summary>The number of blocks of a launch, per dimension.</summary>
public readonly record struct GridSize(int X, int Y = 1, int Z = 1);

/// <summary>
/// Where kernels run: a GPU (<see cref="CudaDevice"/>) or its emulation on the CPU (<see cref="EmulatedDevice"/>). Everything that is enqueued runs
/// in order, on one stream; only <see cref="Synchronize"/> waits. Not thread-safe: one thread at a time enqueues.
/// </summary>
public abstract class KernelDevice : IDisposable
{
    private readonly Dictionary<Delegate, LoadedKernel> _kernels = new(ReferenceEqualityComparer.Instance);
    private long _begun;

    /// <summary>What the hardware calls itself.</summary>
    public abstract string Name { get; }

    /// <summary>How many blocks can truly run side by side, one on each multiprocessor.</summary>
    public abstract int MultiProcessors { get; }

    /// <summary>The most shared memory that one block can have, in bytes.</summary>
    public abstract int SharedMemoryPerBlock { get; }

    /// <summary>Whether kernels for sm_90a run here: warp-group products, and bulk copies by tensor maps.</summary>
    internal virtual bool HasWarpGroups => false;

    /// <summary>The kernels that matrix products may choose from on Hopper; where none of them can compute a product, mma.sync is taken all the same.</summary>
    internal ProductKernels Products { get; set; } = ProductKernels.All;

    /// <summary>Takes the time of every launch from now on, complete after <see cref="Synchronize"/>; null for none. Not while a graph is captured.</summary>
    public KernelProfile? Profile { get; set; }

    /// <summary>Enqueues a kernel; its descriptor supplies the block size and the shared memory. A grid with no block does nothing.</summary>
    /// <exception cref="InvalidOperationException">The kernel is not declared by a <see cref="CudaKernelAttribute"/>.</exception>
    /// <exception cref="ArgumentException">The grid is no whole number of the kernel's clusters.</exception>
    /// <exception cref="DeviceException">The driver refuses the launch.</exception>
    public void Launch<TArguments>(Action<TArguments> kernel, GridSize grid, TArguments arguments) where TArguments : unmanaged
    {
        ArgumentNullException.ThrowIfNull(kernel);
        if (grid.X <= 0 || grid.Y <= 0 || grid.Z <= 0) return;
        if (!_kernels.TryGetValue(kernel, out LoadedKernel? loaded))
            _kernels.Add(kernel, loaded = new LoadedKernel(KernelRegistry.Of(kernel.Method)));
        if (grid.X % loaded.Descriptor.ClusterBlocks != 0)
            throw new ArgumentException($"{loaded.Descriptor.Name} runs in clusters of {loaded.Descriptor.ClusterBlocks} blocks, {grid.X} are no whole number of them", nameof(grid));
        if (Profile is null)
        {
            LaunchCore(kernel, loaded, grid, ref arguments);
            return;
        }
        BeginTiming();
        LaunchCore(kernel, loaded, grid, ref arguments);
        EndTiming(loaded.Descriptor.Name, Profile);
    }

    /// <summary>
    /// Records what <paramref name="enqueue"/> enqueues, without running it. Every kernel must have been launched or prepared before; nothing may be allocated or waited
    /// for inside, and a failure inside leaves the device as it was.
    /// </summary>
    /// <exception cref="InvalidOperationException">The time of launches is being taken.</exception>
    public DeviceGraph Capture(Action enqueue)
    {
        ArgumentNullException.ThrowIfNull(enqueue);
        if (Profile is not null) throw new InvalidOperationException("launches inside of a graph have no time of their own: a graph cannot be captured under a profile");
        return CaptureCore(enqueue);
    }

    /// <summary>Makes a mark to be put behind work and waited for; by default of a device whose calls return when they are done.</summary>
    public virtual DeviceMark CreateMark() => new PassedMark();

    /// <summary>Reserves memory; contents are undefined.</summary>
    /// <exception cref="DeviceException">There is not enough: the message says how much was asked for and how much is free.</exception>
    public abstract DeviceMemory Allocate(long sizeBytes);

    /// <summary>Reserves host memory that the device can reach at full speed.</summary>
    public abstract PinnedMemory AllocatePinned(long sizeBytes);

    /// <summary>Enqueues a copy; the host memory must stay unchanged until the stream has passed it (pinned) or the call returns (pageable).</summary>
    public abstract void CopyToDevice(nint host, long device, long sizeBytes);

    /// <summary>Enqueues a copy; the host memory is valid after <see cref="Synchronize"/>.</summary>
    public abstract void CopyToHost(long device, nint host, long sizeBytes);

    /// <summary>Enqueues a copy from device memory to device memory.</summary>
    public abstract void Copy(long source, long target, long sizeBytes);

    /// <summary>Enqueues a fill with one byte value.</summary>
    public abstract void Fill(long device, byte value, long sizeBytes);

    /// <summary>Waits for everything enqueued so far; a failure of an earlier kernel surfaces here.</summary>
    /// <exception cref="DeviceException">A kernel failed.</exception>
    public abstract void Synchronize();

    /// <summary>Copies <paramref name="source"/> to the device and waits.</summary>
    public unsafe void Upload<T>(ReadOnlySpan<T> source, DevicePointer<T> target) where T : unmanaged
    {
        fixed (T* pointer = source)
        {
            CopyToDevice((nint)pointer, target.Address, (long)source.Length * sizeof(T));
            Synchronize();
        }
    }

    /// <summary>Waits, and copies from the device into <paramref name="target"/>.</summary>
    public unsafe void Download<T>(DevicePointer<T> source, Span<T> target) where T : unmanaged
    {
        fixed (T* pointer = target)
        {
            CopyToHost(source.Address, (nint)pointer, (long)target.Length * sizeof(T));
            Synchronize();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    internal abstract void Free(DeviceMemory memory);

    internal abstract void Free(PinnedMemory memory);

    /// <summary>The tensor map of a matrix, for a kernel's arguments; only where <see cref="HasWarpGroups"/>.</summary>
    /// <exception cref="DeviceException">The driver refuses the view.</exception>
    internal virtual TensorMap Encode(in TensorView view) => TensorMap.Readable(view);

    /// <summary>Before a launch whose time is taken; here, where kernels run at once, by the host's clock.</summary>
    private protected virtual void BeginTiming() => _begun = Stopwatch.GetTimestamp();

    /// <summary>Behind it.</summary>
    private protected virtual void EndTiming(string name, KernelProfile profile) => profile.Add(name, Stopwatch.GetElapsedTime(_begun).TotalMicroseconds);

    private protected abstract void LaunchCore<TArguments>(Action<TArguments> kernel, LoadedKernel loaded, GridSize grid, ref TArguments arguments)
        where TArguments : unmanaged;

    private protected virtual DeviceGraph CaptureCore(Action enqueue) => throw new NotSupportedException($"{Name} records no graphs");

    /// <summary>Gives back what the device holds.</summary>
    protected abstract void Dispose(bool disposing);
}

/// <summary>A kernel on one device, with what the device launches it by, found at the first launch so that later ones look up nothing else.</summary>
internal sealed class LoadedKernel(KernelDescriptor descriptor)
{
    /// <summary>The kernel.</summary>
    public KernelDescriptor Descriptor { get; } = descriptor;

    /// <summary>The driver's function; 0 until the first launch.</summary>
    public nint Function { get; set; }

    /// <summary>The emulation's launcher; null until the first launch.</summary>
    public Delegate? Launcher { get; set; }
}

/// <summary>One allocation of device memory, which the caller cuts up. Starts at a multiple of 256 bytes.</summary>
public sealed class DeviceMemory : IDisposable
{
    private KernelDevice? _device;

    internal DeviceMemory(KernelDevice device, long address, long sizeBytes)
    {
        _device = device;
        Address = address;
        SizeBytes = sizeBytes;
    }

    /// <summary>The first byte.</summary>
    public long Address { get; }

    /// <summary>The size in bytes.</summary>
    public long SizeBytes { get; }

    /// <summary><paramref name="count"/> elements from byte <paramref name="offsetBytes"/> on.</summary>
    /// <exception cref="ArgumentOutOfRangeException">They do not lie within the allocation.</exception>
    public DevicePointer<T> Slice<T>(long offsetBytes, long count) where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offsetBytes);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, (SizeBytes - offsetBytes) / Unsafe.SizeOf<T>());
        return new DevicePointer<T>(Address + offsetBytes);
    }

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _device, null)?.Free(this);
}

/// <summary>Host memory that the device copies from and to without a detour.</summary>
public sealed class PinnedMemory : IDisposable
{
    private KernelDevice? _device;

    internal PinnedMemory(KernelDevice device, nint address, long sizeBytes)
    {
        _device = device;
        Address = address;
        SizeBytes = sizeBytes;
    }

    /// <summary>The first byte.</summary>
    public nint Address { get; }

    /// <summary>The size in bytes.</summary>
    public long SizeBytes { get; }

    /// <summary>The memory as elements; at most 2^31 - 1 of them.</summary>
    public unsafe Span<T> Span<T>() where T : unmanaged => new((void*)Address, checked((int)(SizeBytes / sizeof(T))));

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _device, null)?.Free(this);
}
