namespace BgeMetal.Checkpoints;

/// <summary>
/// The tensors of a checkpoint, by name, whatever files they lie in. Everything except Dispose may be called from several threads at once, so that
/// a model can be read and packed on all cores.
/// </summary>
internal abstract class TensorSource : IDisposable
{
    /// <summary>All tensors, integer ones too.</summary>
    internal abstract IReadOnlyCollection<TensorEntry> Entries { get; }

    /// <summary>The file or directory the tensors come from, for messages.</summary>
    internal abstract string Location { get; }

    /// <summary>Finds a tensor; false when there is none of that name.</summary>
    internal abstract bool TryGet(string name, out TensorEntry entry);

    /// <summary>Reads all values of a tensor, row-major, converted from f32, f16 or bf16, straight into <paramref name="destination"/>.</summary>
    /// <exception cref="BgeMetalException">There is no such tensor, it holds no floats, its element count is not the destination's length, or the
    /// file ends too early or is damaged; the message names the tensor and the file.</exception>
    internal void ReadFloats(string name, Span<float> destination)
    {
        TensorEntry entry = Get(name);
        if (!entry.IsFloat) throw CheckpointErrors.Tensor(entry.File, name, $"its elements are {entry.StorageType}, expected F32, F16 or BF16");
        if (entry.Elements != destination.Length)
            throw CheckpointErrors.Tensor(entry.File, name, $"its shape {CheckpointErrors.Show(entry.Shape)} has {entry.Elements} elements, expected {destination.Length}");
        Read(entry, destination);
    }

    /// <summary>The tensor of that name.</summary>
    /// <exception cref="BgeMetalException">There is none.</exception>
    internal TensorEntry Get(string name) =>
        TryGet(name, out TensorEntry entry) ? entry : throw CheckpointErrors.Tensor(Location, name, "the checkpoint has no tensor of this name");

    /// <summary>The tensor of that name, which must hold floats of exactly this shape.</summary>
    /// <exception cref="BgeMetalException">There is none, or it is another; the message has both shapes.</exception>
    internal TensorEntry Expect(string name, params ReadOnlySpan<long> shape)
    {
        TensorEntry entry = Get(name);
        if (!entry.Shape.AsSpan().SequenceEqual(shape))
            throw CheckpointErrors.Tensor(entry.File, name, $"its shape is {CheckpointErrors.Show(entry.Shape)}, expected {CheckpointErrors.Show(shape)}");
        if (!entry.IsFloat) throw CheckpointErrors.Tensor(entry.File, name, $"its elements are {entry.StorageType}, expected F32, F16 or BF16");
        return entry;
    }

    /// <summary>Reads a tensor that <see cref="TryGet"/> returned; type and element count are already checked.</summary>
    internal abstract void Read(in TensorEntry entry, Span<float> destination);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the files.</summary>
    protected abstract void Dispose(bool disposing);
}
