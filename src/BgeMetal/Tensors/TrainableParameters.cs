using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>A run of parameters that the optimiser treats alike.</summary>
/// <param name="Start">First element in the flat buffers.</param>
/// <param name="Count">Elements.</param>
/// <param name="Decayed">Whether weight decay applies: to weights and tables, not to biases and LayerNorm gains.</param>
internal readonly record struct ParameterSpan(long Start, long Count, bool Decayed);

/// <summary>
/// The parameters of a model in training: one flat fp32 master and, in the same layout, one flat gradient and the two moments, so that zeroing is one
/// fill, the norm one reduction, the update one pass and a checkpoint one write. Decayed parameters come first. The packed forms that the matmul
/// reads are copies, renewed by <see cref="Repack"/> after every update.
/// </summary>
internal sealed unsafe class TrainableParameters : ParameterStore
{
    private const int Alignment = 16;
    private readonly List<(ParameterSpec Spec, long Start)> _layout = [];
    private readonly Dictionary<string, Tensor> _masters = new(StringComparer.Ordinal);
    private readonly NativeBuffer _master;
    private readonly NativeBuffer _grad;
    private readonly NativeBuffer _firstMoment;
    private readonly NativeBuffer _secondMoment;
    private readonly NativeBuffer _packed;

    /// <summary>Lays out room for the parameters; <paramref name="frozen"/> names those that no update touches.</summary>
    public TrainableParameters(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears, IReadOnlySet<string> frozen)
    {
        List<LinearSpec> groups = [.. linears];
        ParameterSpec[] specs = [.. dense.Concat(groups.SelectMany(group => group.Parameters())).OrderBy(spec => IsDecayed(spec) ? 0 : 1)];
        foreach (ParameterSpec spec in specs)
        {
            _layout.Add((spec, Count));
            Count += (spec.Count + Alignment - 1) / Alignment * Alignment;
        }
        _master = NativeBuffer.OfFloats(Count, clear: true);
        _grad = NativeBuffer.OfFloats(Count, clear: true);
        _firstMoment = NativeBuffer.OfFloats(Count, clear: true);
        _secondMoment = NativeBuffer.OfFloats(Count, clear: true);
        foreach ((ParameterSpec spec, long start) in _layout)
            _masters.Add(spec.Name, new Tensor(device, (nint)(_master.Floats + start), DType.Float32, spec.Rows, spec.Columns, spec.Columns));
        foreach (ParameterSpec spec in specs.Where(spec => spec.Role != ParameterRole.Matrix)) Add(spec.Name, _masters[spec.Name]);
        _packed = NativeBuffer.OfFloats(groups.Sum(PackedFloats), clear: true);
        float* next = _packed.Floats;
        foreach (LinearSpec group in groups)
        {
            Add(Layout(device, group, next));
            next += PackedFloats(group);
        }
        Spans = [.. MergeSpans(frozen)];
    }

    /// <summary>Bytes that such parameters will take.</summary>
    public static long SizeOf(IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        List<LinearSpec> groups = [.. linears];
        long count = dense.Concat(groups.SelectMany(group => group.Parameters())).Sum(spec => (spec.Count + Alignment - 1) / Alignment * Alignment);
        return sizeof(float) * ((4 * count) + groups.Sum(PackedFloats));
    }

    /// <summary>Elements of each flat buffer, padding included (which stays zero).</summary>
    public long Count { get; }

    /// <summary>What the optimiser updates.</summary>
    public IReadOnlyList<ParameterSpan> Spans { get; }

    /// <summary>The fp32 weights.</summary>
    public float* Master => _master.Floats;

    /// <summary>The gradients, added to by every backward pass.</summary>
    public float* Grad => _grad.Floats;

    /// <summary>Adam's first moments.</summary>
    public float* FirstMoment => _firstMoment.Floats;

    /// <summary>Adam's second moments.</summary>
    public float* SecondMoment => _secondMoment.Floats;

    /// <inheritdoc/>
    public override long SizeBytes => _master.SizeBytes * 4 + _packed.SizeBytes;

    /// <summary>Every parameter with its master weights, in layout order.</summary>
    public IEnumerable<(ParameterSpec Spec, Tensor Master)> All => _layout.Select(entry => (entry.Spec, _masters[entry.Spec.Name]));

    /// <summary>The gradient of a master weight, table or vector.</summary>
    public Tensor GradientOf(Tensor parameter)
    {
        long start = (parameter.Address - (nint)_master.Floats) / sizeof(float);
        if (start < 0 || start >= Count) throw new ArgumentException("not one of these parameters", nameof(parameter));
        return new Tensor(parameter.Device, (nint)(_grad.Floats + start), DType.Float32, parameter.Rows, parameter.Columns, parameter.RowStride);
    }

    /// <summary>Sets all gradients to zero.</summary>
    public void ZeroGradients() => System.Runtime.InteropServices.NativeMemory.Clear(_grad.Bytes, (nuint)_grad.SizeBytes);

    /// <summary>The name of the first parameter with a weight or a gradient that is not finite, in the model's order; null when all are.</summary>
    public string? FirstNotFinite()
    {
        foreach ((ParameterSpec spec, long start) in _layout)
            for (long i = start; i < start + spec.Count; i++)
                if (!float.IsFinite(Master[i]) || !float.IsFinite(Grad[i])) return spec.Name;
        return null;
    }

    /// <inheritdoc/>
    public override void Fill(WorkerTeam team, ParameterReader read)
    {
        foreach ((ParameterSpec spec, Tensor master) in All) read(spec, new Span<float>(master.Floats, checked((int)spec.Count)));
        Repack(team);
    }

    /// <summary>Renews the packed copies from the master weights.</summary>
    public void Repack(WorkerTeam team)
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
    public override void Dispose()
    {
        foreach (NativeBuffer buffer in new[] { _master, _grad, _firstMoment, _secondMoment, _packed }) buffer.Dispose();
    }

    private static bool IsDecayed(ParameterSpec spec) => spec.Role is ParameterRole.Table or ParameterRole.Matrix;

    private static long PackedFloats(LinearSpec group)
    {
        long stride = LinearWeight.Stride(group), layers = group.Layers.Length;
        return layers * (PackedMatrix.Length((int)stride, group.InFeatures) + stride + LinearMasters.TransposedFloats(group));
    }

    private LinearWeight Layout(Device device, LinearSpec group, float* memory)
    {
        int stride = LinearWeight.Stride(group), layers = group.Layers.Length;
        float* transposed = memory + layers * PackedMatrix.Length(stride, group.InFeatures);
        float* bias = transposed + layers * LinearMasters.TransposedFloats(group);
        LinearMasters masters = new([.. group.Layers.Select(layer => _masters[layer + ".weight"])],
            [.. group.Layers.Select(layer => _masters[layer + ".bias"])], (nint)transposed);
        Tensor padded = new(device, (nint)bias, DType.Float32, 1, layers * stride, layers * stride);
        return new LinearWeight(group, (nint)memory, padded, layers, masters);
    }

    private List<ParameterSpan> MergeSpans(IReadOnlySet<string> frozen)
    {
        List<ParameterSpan> spans = [];
        for (int i = 0; i < _layout.Count; i++)
        {
            (ParameterSpec spec, long start) = _layout[i];
            if (frozen.Contains(spec.Name)) continue;
            long end = i + 1 < _layout.Count ? _layout[i + 1].Start : Count;
            if (spans.Count > 0 && spans[^1].Decayed == IsDecayed(spec) && spans[^1].Start + spans[^1].Count == start)
                spans[^1] = spans[^1] with { Count = end - spans[^1].Start };
            else
                spans.Add(new ParameterSpan(start, end - start, IsDecayed(spec)));
        }
        return spans;
    }
}
