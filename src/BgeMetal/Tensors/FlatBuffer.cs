using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>The flat buffers of <see cref="TrainableParameters"/>, all of one layout.</summary>
internal enum FlatBuffer
{
    /// <summary>The fp32 weights.</summary>
    Master,

    /// <summary>The gradients, added to by every backward pass.</summary>
    Gradient,

    /// <summary>Adam's first moments.</summary>
    FirstMoment,

    /// <summary>Adam's second moments.</summary>
    SecondMoment,
}

/// <summary>A flat buffer as the host reads it: the buffer itself on the CPU, a copy of it on CUDA.</summary>
internal sealed unsafe class HostFloats : IDisposable
{
    private readonly NativeBuffer? _copy;
    private readonly nint _start;

    /// <summary>Memory that belongs to somebody else.</summary>
    public HostFloats(nint start) => _start = start;

    /// <summary>A copy of its own; waits for the device.</summary>
    public HostFloats(Device device, nint source, long count)
    {
        const int Piece = 1 << 26;
        _copy = NativeBuffer.OfFloats(count);
        _start = (nint)_copy.Floats;
        for (long at = 0; at < count; at += Piece)
            device.Read(source + (nint)(at * sizeof(float)), new Span<float>(_copy.Floats + at, (int)Math.Min(Piece, count - at)));
    }

    /// <summary>The float with number <paramref name="start"/>.</summary>
    public float* At(long start) => (float*)_start + start;

    /// <inheritdoc/>
    public void Dispose() => _copy?.Dispose();
}
