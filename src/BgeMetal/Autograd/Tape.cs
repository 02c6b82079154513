using BgeMetal.Tensors;

namespace BgeMetal.Autograd;

/// <summary>
/// What operations run on: the arena their results go to and the device that computes. An inference tape keeps nothing: its tensors live until
/// they are rewound. Always an explicit argument, never ambient state.
/// </summary>
internal sealed class Tape : IDisposable
{
    private readonly ArenaMark _start;

    private Tape(Arena arena)
    {
        Arena = arena;
        _start = arena.Mark();
    }

    /// <summary>Where results are allocated.</summary>
    public Arena Arena { get; }

    /// <summary>Where operations run.</summary>
    public Device Device => Arena.Device;

    /// <summary>A tape that computes without keeping anything for a backward pass. Disposing rewinds the arena.</summary>
    public static Tape Inference(Arena arena) => new(arena);

    /// <summary>
    /// Keeps <paramref name="result"/> and gives back everything else allocated since <paramref name="mark"/>: the rows move down to the mark.
    /// Called between layers, so that a forward pass needs the memory of one layer.
    /// </summary>
    public unsafe Tensor Compact(ArenaMark mark, Tensor result)
    {
        Arena.Rewind(mark);
        Tensor kept = Arena.Activation(result.Rows, result.Columns);
        long bytes = (long)result.Rows * result.RowStride * sizeof(float);
        if (kept.Address != result.Address) Buffer.MemoryCopy(result.Floats, kept.Floats, bytes, bytes);
        return kept;
    }

    /// <inheritdoc/>
    public void Dispose() => Arena.Rewind(_start);
}
