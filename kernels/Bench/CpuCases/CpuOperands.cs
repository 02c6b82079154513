using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>The operands of one call on the CPU: random, in native memory, freed together.</summary>
internal sealed unsafe class CpuOperands : IDisposable
{
    /// <summary>Rows of activations are padded so far, as the library pads them: power-of-two strides share cache sets.</summary>
    public const int Padding = 16;

    private readonly List<NativeBuffer> _buffers = [];
    private readonly Random _random = new(1);

    /// <summary>The team that makes operands which a kernel has to compute.</summary>
    public WorkerTeam Team { get; init; } = WorkerTeam.Single;

    /// <summary>Bytes taken so far.</summary>
    public long SizeBytes { get; private set; }

    /// <summary>Values in [-scale, scale).</summary>
    public float* Floats(long count, float scale = 1)
    {
        float* values = Add(count * sizeof(float)).Floats;
        for (long i = 0; i < count; i++) values[i] = ((_random.NextSingle() * 2) - 1) * scale;
        return values;
    }

    /// <summary>[rows, columns] with padded rows.</summary>
    public float* Rows(long rows, int columns, float scale = 1) => Floats(rows * (columns + Padding), scale);

    /// <summary>Values in [0, 1).</summary>
    public float* Positive(long count)
    {
        float* values = Floats(count);
        for (long i = 0; i < count; i++) values[i] = Math.Abs(values[i]);
        return values;
    }

    /// <summary>first + i * step modulo <paramref name="modulus"/>.</summary>
    public int* Integers(int count, int step, int modulus = int.MaxValue)
    {
        int* values = (int*)Add(count * sizeof(int)).Bytes;
        for (int i = 0; i < count; i++) values[i] = (int)((long)i * step % modulus);
        return values;
    }

    /// <summary>Random words.</summary>
    public ulong* Bits(long words)
    {
        ulong* values = (ulong*)Add(words * sizeof(ulong)).Bytes;
        for (long i = 0; i < words; i++) values[i] = (ulong)_random.NextInt64() | 1;
        return values;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (NativeBuffer buffer in _buffers) buffer.Dispose();
    }

    private NativeBuffer Add(long sizeBytes)
    {
        NativeBuffer buffer = new(sizeBytes);
        _buffers.Add(buffer);
        SizeBytes += sizeBytes;
        return buffer;
    }
}
