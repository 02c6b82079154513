using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>
/// On CUDA, how the rows of an embedding's gradient are added to its three tables without atomics: planned on the host from the ids when they are at hand, copied
/// to the device then.
/// </summary>
internal sealed class TableGradients
{
    // Every list is copied to the device before the next one is made.
    [ThreadStatic] private static EmbeddingGradientPlan? t_plan;

    private readonly Tape _tape;
    private readonly EmbeddingTables _tables;
    private readonly EmbeddingGradientOrder _word, _position, _type;

    /// <summary>Plans for a batch whose rows of the first table are <paramref name="ids"/>, those of <paramref name="paddingId"/> left out.</summary>
    public TableGradients(Tape tape, ReadOnlySpan<int> ids, int paddingId, HostBatch batch, EmbeddingTables tables)
    {
        (_tape, _tables) = (tape, tables);
        _word = Plan(tape.Arena, ids, paddingId);
        _position = Plan(tape.Arena, batch.PositionIds.Span, tables.PaddingPosition);
        _type = Plan(tape.Arena, batch.TokenTypeIds.Span, -1);
    }

    /// <summary>Adds the rows of dy to <paramref name="first"/>, binary32 without padding between rows, and to the gradients of the position and type tables.</summary>
    public void Add(Tensor first, Tensor dy)
    {
        TrainableParameters parameters = _tape.Parameters!;
        Add(_word, dy, first);
        Add(_position, dy, parameters.GradientOf(_tables.Position));
        Add(_type, dy, parameters.GradientOf(_tables.TokenType));
    }

    private static EmbeddingGradientOrder Plan(Arena arena, ReadOnlySpan<int> ids, int excluded)
    {
        EmbeddingGradientPlan plan = t_plan ??= new EmbeddingGradientPlan();
        plan.Renew(ids, int.MaxValue, excluded);
        return plan.At(arena.Integers(plan.All).Pointer<int>());
    }

    private void Add(EmbeddingGradientOrder order, Tensor dy, Tensor table)
    {
        if (order.Pieces > 0) _tape.Device.Choose(Add<FP32>, Add<BF16>, Add<FP16>)(_tape.Device, order, dy, table);
    }

    private static void Add<T>(Device device, EmbeddingGradientOrder order, Tensor dy, Tensor table) where T : unmanaged, IElement =>
        Embedding.Backward(device.Kernels, dy.Matrix<T>(), order, dy.Columns, table.Pointer<FP32>(), device.Workspace);
}
