using BgeMetal.Kernels;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>
/// One batch's way through a GPU: page-locked memory for the integers that go in and for the rows that come out, and a mark behind the last copy. Nothing waits until
/// <see cref="Wait"/>, so with two passes the host packs and reads one batch while the GPU works on another.
/// </summary>
internal sealed unsafe class DevicePass(Device device) : IDisposable
{
    private readonly DeviceMark _mark = device.Kernels.CreateMark();
    private PinnedMemory? _input;
    private PinnedMemory? _output;
    private Tensor _rows;

    /// <summary>Whether rows are on their way.</summary>
    public bool IsUnderWay { get; private set; }

    /// <summary>Room for the integers that go in; the device must not be reading them any more.</summary>
    public Span<int> Input(int count) => Reserve(ref _input, (long)count * sizeof(int)).Span<int>()[..count];

    /// <summary>Enqueues a copy of what <see cref="Input"/> was filled with.</summary>
    public void Upload(Tensor numbers) => device.Kernels.CopyToDevice(_input!.Address, numbers.Address, (long)numbers.Columns * sizeof(int));

    /// <summary>Enqueues the copy of the result's rows and puts the mark behind it.</summary>
    public void Download(Tensor rows)
    {
        long sizeBytes = SizeOf(rows);
        device.Kernels.CopyToHost(rows.Address, Reserve(ref _output, sizeBytes).Address, sizeBytes);
        _mark.Record();
        (_rows, IsUnderWay) = (rows, true);
    }

    /// <summary>Waits for the rows.</summary>
    public void Wait()
    {
        IsUnderWay = false;
        _mark.Wait();
    }

    /// <summary>A row that has arrived, as floats.</summary>
    public void CopyRow(int row, Span<float> destination)
    {
        int size = _rows.DType.SizeBytes;
        ReadOnlySpan<byte> bytes = new((void*)(_output!.Address + (nint)((long)row * _rows.RowStride * size)), destination.Length * size);
        ElementConversion.ToFloats(bytes, _rows.DType, destination);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _input?.Dispose();
        _output?.Dispose();
        _mark.Dispose();
    }

    private static long SizeOf(Tensor rows) => (((long)(rows.Rows - 1) * rows.RowStride) + rows.Columns) * rows.DType.SizeBytes;

    private PinnedMemory Reserve(ref PinnedMemory? memory, long sizeBytes)
    {
        if (memory is not null && memory.SizeBytes >= sizeBytes) return memory;
        memory?.Dispose();
        memory = null;
        // Rounded up, so that batches of about one size do not take new memory each.
        return memory = device.Kernels.AllocatePinned(Math.Max(4096, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)sizeBytes)));
    }
}
