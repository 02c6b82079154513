using BgeMetal.Kernels;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>
/// A bump allocator for the tensors of one step: allocation moves a pointer, <see cref="Rewind"/> moves it back, nothing is freed in between.
/// It grows by whole blocks until the largest step fits; after that a step allocates no memory at all. Not thread-safe: one arena a worker.
/// </summary>
internal sealed class Arena : IDisposable
{
    private const long AlignmentBytes = 64;
    private const long FirstBlockBytes = 1 << 20, FirstGpuBlockBytes = 64 << 20;
    private readonly List<DeviceBlock> _blocks = [];
    private int _block;
    private long _used;
    private long _below;
    private ArenaRange _kept;

    /// <summary>An empty arena; the first allocation takes the first block.</summary>
    public Arena(Device device) => Device = device;

    /// <summary>The device its tensors live on.</summary>
    public Device Device { get; private set; }

    /// <summary>The most bytes that were in use at one time.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>Bytes taken from the system.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>The same memory computing with another team of threads. Only between steps, when nothing is allocated.</summary>
    public void MoveTo(Device device)
    {
        if (_below + _used != 0) throw new InvalidOperationException("the arena is in use");
        Device = device;
    }

    /// <summary>An uninitialised activation [rows, columns] in the device's storage type, rows padded as it likes them.</summary>
    public Tensor Activation(int rows, int columns) => Like(Device.DType, rows, columns);

    /// <summary>An uninitialised [rows, columns] of binary32 on every device: statistics, scores, losses.</summary>
    public Tensor Floats(int rows, int columns) => Like(DType.Float32, rows, columns);

    /// <summary>An uninitialised [rows, columns] of a storage type, rows padded as the device likes them.</summary>
    public Tensor Like(DType dtype, int rows, int columns) => Allocate(dtype, rows, columns, Device.RowStride(columns));

    /// <summary>An uninitialised dense vector of 32-bit integers.</summary>
    public Tensor Integers(int count) => Allocate(DType.Int32, 1, count, count);

    /// <summary>A dense vector that holds <paramref name="values"/>; a single 0 where there are none, because an empty tensor has no address.</summary>
    public Tensor Integers(ReadOnlySpan<int> values)
    {
        Tensor tensor = Integers(Math.Max(values.Length, 1));
        Device.Write(values.Length == 0 ? [0] : values, tensor.Address);
        return tensor;
    }

    /// <summary>The place to return to with <see cref="Rewind"/>.</summary>
    public ArenaMark Mark() => new(_block, _used, _below, _kept);

    /// <summary>Forgets everything allocated since <paramref name="mark"/> was taken.</summary>
    public void Rewind(ArenaMark mark)
    {
        _block = mark.Block;
        _used = mark.Used;
        _below = mark.Below;
        _kept = mark.Kept;
    }

    /// <summary>
    /// Forgets everything allocated since <paramref name="mark"/> was taken but <paramref name="tensor"/>, which stays where it is: later allocations go around it until
    /// the next call, or until the mark, or one before it, is returned to.
    /// </summary>
    public void RewindAround(ArenaMark mark, Tensor tensor)
    {
        long bytes = (long)tensor.Rows * tensor.RowStride * tensor.DType.SizeBytes;
        int block = _blocks.FindIndex(memory => tensor.Address >= memory.Address && tensor.Address < memory.Address + memory.SizeBytes);
        if (block < 0) throw new ArgumentException($"{tensor} is not of this arena", nameof(tensor));
        long start = tensor.Address - _blocks[block].Address;
        Rewind(mark);
        _kept = new ArenaRange(block, start, start + Aligned(bytes));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceBlock block in _blocks) block.Dispose();
        _blocks.Clear();
    }

    private Tensor Allocate(DType dtype, int rows, int columns, int rowStride)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(columns);
        long bytes = Aligned((long)rows * rowStride * dtype.SizeBytes);
        while (_block < _blocks.Count && EndOf(bytes) > _blocks[_block].SizeBytes)
        {
            _below += _blocks[_block].SizeBytes;
            _block++;
            _used = 0;
        }
        if (_block == _blocks.Count)
        {
            DeviceBlock added = Grow(bytes);
            _blocks.Add(added);
            ReservedBytes += added.SizeBytes;
        }
        _used = EndOf(bytes);
        nint address = _blocks[_block].Address + (nint)(_used - bytes);
        PeakBytes = Math.Max(PeakBytes, _below + _used);
        return new Tensor(Device, address, dtype, rows, columns, rowStride);
    }

    /// <summary>Where so many bytes end in the current block when they go around what is kept there.</summary>
    private long EndOf(long bytes) => (_block == _kept.Block && _used < _kept.End && _used + bytes > _kept.Start ? _kept.End : _used) + bytes;

    private static long Aligned(long bytes) => (bytes + AlignmentBytes - 1) / AlignmentBytes * AlignmentBytes;

    /// <summary>Doubles what there is, or, where a GPU has no room for that, takes only what is needed.</summary>
    private DeviceBlock Grow(long bytes)
    {
        long wanted = Math.Max(bytes, Math.Max(Device.Kind == DeviceKind.Cpu ? FirstBlockBytes : FirstGpuBlockBytes, ReservedBytes));
        try
        {
            return Device.Allocate(wanted);
        }
        catch (DeviceException) when (wanted > bytes)
        {
            return Device.Allocate(bytes);
        }
    }
}

/// <summary>A position in an <see cref="Arena"/>.</summary>
internal readonly record struct ArenaMark(int Block, long Used, long Below, ArenaRange Kept);

/// <summary>Bytes of one of an arena's blocks.</summary>
internal readonly record struct ArenaRange(int Block, long Start, long End);
