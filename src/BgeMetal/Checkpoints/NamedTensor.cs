namespace BgeMetal.Checkpoints;

/// <summary>A tensor to be saved: its state dict name, its shape and where its floats lie, in managed memory or behind a pointer that outlives the call.</summary>
internal readonly unsafe struct NamedTensor
{
    private readonly ReadOnlyMemory<float> _memory;
    private readonly float* _pointer;

    /// <summary>Values in managed memory; their number must be the shape's.</summary>
    internal NamedTensor(string name, long[] shape, ReadOnlyMemory<float> values) : this(name, shape)
    {
        if (values.Length != Elements) throw new ArgumentException($"tensor '{name}' of shape {CheckpointErrors.Show(shape)} got {values.Length} values", nameof(values));
        _memory = values;
    }

    /// <summary>Contiguous values behind a pointer.</summary>
    internal NamedTensor(string name, long[] shape, float* values) : this(name, shape)
    {
        ArgumentNullException.ThrowIfNull(values);
        _pointer = values;
    }

    private NamedTensor(string name, long[] shape)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        Name = name;
        Shape = shape;
        Elements = TensorEntry.CountElements(shape);
        if (Elements < 0) throw new ArgumentException($"tensor '{name}' has the shape {CheckpointErrors.Show(shape)}", nameof(shape));
    }

    /// <summary>The state dict name.</summary>
    internal string Name { get; }

    /// <summary>Extents, outermost first.</summary>
    internal long[] Shape { get; }

    /// <summary>The product of the extents.</summary>
    internal long Elements { get; }

    /// <summary>Bytes in the file: 4 an element.</summary>
    internal long SizeBytes => Elements * sizeof(float);

    /// <summary>A run of the values.</summary>
    internal ReadOnlySpan<float> Values(long start, int count) =>
        _pointer is not null ? new ReadOnlySpan<float>(_pointer + start, count) : _memory.Span.Slice((int)start, count);
}
