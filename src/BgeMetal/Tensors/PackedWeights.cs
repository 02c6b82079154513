using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>
/// What the CPU's matmul reads of linear layers in training: copies of the master weights, packed for both directions, and of the biases. One allocation.
/// </summary>
internal sealed unsafe class PackedWeights : IDisposable
{
    private readonly NativeBuffer _memory;

    /// <summary>Lays out room for the groups over their masters; the values come with <see cref="Renew"/>.</summary>
    public PackedWeights(Device device, IReadOnlyList<LinearSpec> groups, IReadOnlyDictionary<string, Tensor> masters)
    {
        _memory = NativeBuffer.OfFloats(Floats(groups), clear: true);
        List<LinearWeight> linears = [];
        float* next = _memory.Floats;
        foreach (LinearSpec group in groups)
        {
            linears.Add(Layout(device, group, masters, next));
            next += Floats(group);
        }
        Linears = linears;
    }

    /// <summary>The layers.</summary>
    public IReadOnlyList<LinearWeight> Linears { get; }

    /// <summary>Bytes held.</summary>
    public long SizeBytes => _memory.SizeBytes;

    /// <summary>Floats that such layers take.</summary>
    public static long Floats(IEnumerable<LinearSpec> groups) => groups.Sum(Floats);

    /// <summary>Renews the copies from the master weights.</summary>
    public void Renew(WorkerTeam team)
    {
        foreach (LinearWeight linear in Linears)
        {
            LinearSpec spec = linear.Spec;
            LinearMasters masters = linear.Masters!;
            int stride = LinearWeight.Stride(spec);
            for (int i = 0; i < linear.LayerCount; i++)
            {
                float* weight = masters.Weights[i].Floats;
                PackedMatrix.Pack(team, weight, spec.InFeatures, spec.OutFeatures, spec.InFeatures, linear.Panels + (long)i * stride * spec.InFeatures);
                LinearBackward.PackTransposed(team, weight, spec.InFeatures, spec.OutFeatures, spec.InFeatures, masters.TransposedPanels(spec, i));
                masters.Biases[i].RowSpan(0).CopyTo(linear.Bias.RowSpan(0)[(i * stride)..]);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private static long Floats(LinearSpec group)
    {
        long stride = LinearWeight.Stride(group), layers = group.Layers.Length;
        return layers * (PackedMatrix.Length((int)stride, group.InFeatures) + stride + LinearMasters.TransposedFloats(group));
    }

    private static LinearWeight Layout(Device device, LinearSpec group, IReadOnlyDictionary<string, Tensor> masters, float* memory)
    {
        int stride = LinearWeight.Stride(group), layers = group.Layers.Length;
        float* transposed = memory + layers * PackedMatrix.Length(stride, group.InFeatures);
        float* bias = transposed + layers * LinearMasters.TransposedFloats(group);
        LinearMasters own = new([.. group.Layers.Select(layer => masters[layer + ".weight"])], [.. group.Layers.Select(layer => masters[layer + ".bias"])], (nint)transposed);
        Tensor padded = new(device, (nint)bias, DType.Float32, 1, layers * stride, layers * stride);
        return new LinearWeight(group, (nint)memory, padded, layers, own);
    }
}
