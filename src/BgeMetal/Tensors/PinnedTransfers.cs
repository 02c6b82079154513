using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>
/// Copies between the host and a GPU by way of page-locked memory, which the GPU reads and writes on its own. Writes are enqueued and follow each other
/// through the page-locked memory until it is full or a read has waited for the stream, after which it is free again.
/// </summary>
internal sealed unsafe class PinnedTransfers(KernelDevice device) : IDisposable
{
    private const int FirstBytes = 1 << 20, MostBytes = 32 << 20, Alignment = 64;
    private PinnedMemory? _memory;
    private long _used;

    /// <summary>Enqueues a copy of <paramref name="values"/> to the device; the span may be reused at once.</summary>
    public void Write(ReadOnlySpan<byte> values, nint address)
    {
        while (values.Length > 0)
        {
            Span<byte> staged = Take(values.Length);
            values[..staged.Length].CopyTo(staged);
            fixed (byte* start = staged) device.CopyToDevice((nint)start, address, staged.Length);
            values = values[staged.Length..];
            address += staged.Length;
        }
    }

    /// <summary>Copies from the device and waits.</summary>
    public void Read(nint address, Span<byte> values)
    {
        while (values.Length > 0)
        {
            Span<byte> staged = Take(values.Length);
            fixed (byte* start = staged) device.CopyToHost(address, (nint)start, staged.Length);
            device.Synchronize();
            _used = 0;
            staged.CopyTo(values);
            values = values[staged.Length..];
            address += staged.Length;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _memory?.Dispose();

    /// <summary>Free page-locked memory, as many bytes as wanted or as there can be.</summary>
    private Span<byte> Take(int wanted)
    {
        int size = Math.Min(wanted, MostBytes);
        long have = _memory?.SizeBytes ?? 0;
        if (_used + size > have)
        {
            if (have > 0) device.Synchronize();
            _used = 0;
            if (have < MostBytes) Replace(Math.Min(MostBytes, Math.Max(size, Math.Max(FirstBytes, 2 * have))));
        }
        Span<byte> taken = new((void*)(_memory!.Address + (nint)_used), size);
        _used += (size + Alignment - 1) / Alignment * Alignment;
        return taken;
    }

    private void Replace(long sizeBytes)
    {
        _memory?.Dispose();
        _memory = null;
        _memory = device.AllocatePinned(sizeBytes);
    }
}
