using BgeMetal.Kernels;
using BgeMetal.Tensors;

namespace BgeMetal.Autograd;

/// <summary>Where a gradient goes.</summary>
/// <param name="Buffer">The buffer, shaped like the tensor.</param>
/// <param name="Accumulate">Whether the buffer holds another path's gradient, to be added to; otherwise it is uninitialised and must be stored to.</param>
internal readonly record struct GradientSlot(Tensor Buffer, bool Accumulate);

/// <summary>
/// The gradient buffers of one backward pass, by activation. A column range of an activation shares the buffer of the whole. Buffers whose gradient
/// was consumed serve the next activation of the same size, so a backward pass needs few of them.
/// </summary>
internal sealed class GradientSlots(Arena arena)
{
    private readonly Dictionary<nint, Tensor> _buffers = [];
    private readonly Dictionary<(DType DType, int Rows, int Columns), Stack<Tensor>> _free = [];

    /// <summary>The slot of <paramref name="x"/>: the first writer stores, later ones add. A column range starts from zero, so it always adds.</summary>
    public GradientSlot Get(Tensor x)
    {
        bool isWhole = x.WholeAddress == x.Address && x.Columns == x.WholeColumns;
        bool known = _buffers.TryGetValue(x.WholeAddress, out Tensor buffer);
        if (!known) _buffers.Add(x.WholeAddress, buffer = Allocate(x.DType, x.Rows, x.WholeColumns));
        if (isWhole) return new GradientSlot(buffer, known);
        if (!known) buffer.Clear();
        return new GradientSlot(buffer.ColumnRange((int)((x.Address - x.WholeAddress) / x.DType.SizeBytes), x.Columns), Accumulate: true);
    }

    /// <summary>The slot of <paramref name="x"/>, cleared if nothing was written to it yet.</summary>
    public Tensor GetToAddTo(Tensor x)
    {
        GradientSlot slot = Get(x);
        if (!slot.Accumulate) slot.Buffer.Clear();
        return slot.Buffer;
    }

    /// <summary>The finished gradient of <paramref name="x"/>, which is forgotten here; null when nothing depends on it.</summary>
    public Tensor? Take(Tensor x) => _buffers.Remove(x.Address, out Tensor buffer) ? buffer : null;

    /// <summary>Gives a consumed buffer back for reuse.</summary>
    public void Recycle(Tensor buffer)
    {
        (DType, int, int) kind = (buffer.DType, buffer.Rows, buffer.Columns);
        if (!_free.TryGetValue(kind, out Stack<Tensor>? stack)) _free.Add(kind, stack = new());
        stack.Push(buffer);
    }

    private Tensor Allocate(DType dtype, int rows, int columns) =>
        _free.TryGetValue((dtype, rows, columns), out Stack<Tensor>? stack) && stack.TryPop(out Tensor reused) ? reused : arena.Like(dtype, rows, columns);
}
