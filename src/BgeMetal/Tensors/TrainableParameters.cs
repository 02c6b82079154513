using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>A run of parameters that the optimiser treats alike.</summary>
/// <param name="Start">First element in the flat buffers.</param>
/// <param name="Count">Elements.</param>
/// <param name="Decayed">Whether weight decay applies: to weights and tables, not to biases and LayerNorm gains.</param>
/// <param name="Frozen">Whether no update touches it.</param>
internal readonly record struct ParameterSpan(long Start, long Count, bool Decayed, bool Frozen);

/// <summary>
/// The parameters of a model in training: one flat fp32 master and, in the same layout, one flat gradient and the two moments, so that zeroing is one
/// fill, the norm one reduction, the update one pass and a checkpoint one write. Decayed parameters come first. What the matmul reads is a copy: on the CPU
/// packed panels, renewed by <see cref="Repack"/> after every update; on CUDA one more flat buffer in the device's storage type, which the update itself
/// writes (none in fp32: there the master is read). Query, key and value lie side by side in it, so the layers of a group are one matrix.
/// </summary>
internal sealed unsafe class TrainableParameters : ParameterStore
{
    private readonly List<(ParameterSpec Spec, long Start)> _layout = [];
    private readonly Dictionary<string, long> _starts = new(StringComparer.Ordinal);
    private readonly DeviceBlock _master;
    private readonly DeviceBlock _grad;
    private readonly DeviceBlock _firstMoment;
    private readonly DeviceBlock _secondMoment;
    private readonly DeviceBlock? _compute;

    /// <summary>Lays out room for the parameters; <paramref name="frozen"/> names those that no update touches.</summary>
    /// <exception cref="BgeMetalException">Layers that share their input cannot lie side by side on a GPU.</exception>
    public TrainableParameters(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears, IReadOnlySet<string> frozen)
    {
        Device = device;
        List<LinearSpec> groups = [.. linears];
        ParameterSpec[] specs = [.. dense.Concat(groups.SelectMany(group => group.Parameters())).OrderBy(spec => IsDecayed(spec) ? 0 : 1)];
        foreach (ParameterSpec spec in specs)
        {
            _layout.Add((spec, Count));
            _starts.Add(spec.Name, Count);
            Count += Padded(device, spec.Count);
        }
        (_master, _grad, _firstMoment, _secondMoment) = (Flat(device, Count), Flat(device, Count), Flat(device, Count), Flat(device, Count));
        Spans = [.. MergeSpans(frozen)];
        if (device.Kind == DeviceKind.Cpu) _compute = LayPanels(groups);
        else if (device.DType != DType.Float32) _compute = device.Allocate(Count * device.DType.SizeBytes);
        foreach (ParameterSpec spec in specs.Where(spec => spec.Role != ParameterRole.Matrix)) Add(spec.Name, Compute(spec));
        if (device.Kind != DeviceKind.Cuda) return;
        foreach (LinearSpec group in groups) Add(SideBySide(group));
        Scalars = new OptimizerScalars(device, Spans);
    }

    /// <summary>Bytes that such parameters will take on a device.</summary>
    public static long SizeOf(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        List<LinearSpec> groups = [.. linears];
        long count = dense.Concat(groups.SelectMany(group => group.Parameters())).Sum(spec => Padded(device, spec.Count));
        return (4 * sizeof(float) * count) + (device.Kind == DeviceKind.Cpu ? sizeof(float) * groups.Sum(PackedFloats)
            : device.DType == DType.Float32 ? 0 : device.DType.SizeBytes * count);
    }

    /// <summary>Where they are.</summary>
    public Device Device { get; }

    /// <summary>Elements of each flat buffer, padding included (which stays zero).</summary>
    public long Count { get; }

    /// <summary>The parameters in layout order, those that are treated alike and follow each other as one; they cover the flat buffers.</summary>
    public IReadOnlyList<ParameterSpan> Spans { get; }

    /// <summary>The fp32 weights.</summary>
    public float* Master => (float*)_master.Address;

    /// <summary>The gradients, added to by every backward pass.</summary>
    public float* Grad => (float*)_grad.Address;

    /// <summary>Adam's first moments.</summary>
    public float* FirstMoment => (float*)_firstMoment.Address;

    /// <summary>Adam's second moments.</summary>
    public float* SecondMoment => (float*)_secondMoment.Address;

    /// <summary>The copy that operations read in the device's storage type; 0 where they read the master (CUDA).</summary>
    public nint ComputeCopy => _compute?.Address ?? 0;

    /// <summary>What an update reads and writes besides the flat buffers (CUDA).</summary>
    public OptimizerScalars? Scalars { get; }

    /// <inheritdoc/>
    public override long SizeBytes => (_master.SizeBytes * 4) + (_compute?.SizeBytes ?? 0);

    /// <inheritdoc/>
    public override nint Address => _compute?.Address ?? _master.Address;

    /// <summary>Every parameter with its master weights, in layout order.</summary>
    public IEnumerable<(ParameterSpec Spec, Tensor Master)> All => _layout.Select(entry => (entry.Spec, MasterOf(entry.Spec)));

    /// <summary>The gradient of a master weight, table or vector, or of layers side by side.</summary>
    public Tensor GradientOf(Tensor parameter)
    {
        long start = StartOf(parameter, _master.Address, sizeof(float));
        if (start < 0 && Device.Kind == DeviceKind.Cuda && _compute is not null) start = StartOf(parameter, _compute.Address, Device.DType.SizeBytes);
        if (start < 0) throw new ArgumentException("not one of these parameters", nameof(parameter));
        return new Tensor(parameter.Device, (nint)(Grad + start), DType.Float32, parameter.Rows, parameter.Columns, parameter.RowStride);
    }

    /// <summary>Where a parameter begins in the flat buffers.</summary>
    public long StartOf(ParameterSpec spec) => _starts[spec.Name];

    /// <summary>Sets all gradients to zero.</summary>
    public void ZeroGradients() => Device.Clear(_grad.Address, _grad.SizeBytes);

    /// <summary>Forgets the gradients of parameters that no update touches, so that they do not count in the norm.</summary>
    public void ClearFrozenGradients()
    {
        foreach (ParameterSpan span in Spans.Where(span => span.Frozen)) Device.Clear((nint)(Grad + span.Start), span.Count * sizeof(float));
    }

    /// <summary>The name of the first parameter with a weight or a gradient that is not finite, in the model's order; null when all are.</summary>
    public string? FirstNotFinite()
    {
        foreach ((ParameterSpec spec, long start) in _layout)
            if (!ReadBack(Master + start, spec).All(float.IsFinite) || !ReadBack(Grad + start, spec).All(float.IsFinite)) return spec.Name;
        return null;
    }

    /// <summary>A parameter's values out of one of the flat buffers, in host memory.</summary>
    public float[] ReadBack(float* values, ParameterSpec spec)
    {
        float[] copy = new float[checked((int)spec.Count)];
        Device.Read<float>((nint)values, copy);
        return copy;
    }

    /// <inheritdoc/>
    public override void Fill(WorkerTeam team, ParameterReader read)
    {
        foreach ((ParameterSpec spec, long start) in _layout)
        {
            if (Device.Kind == DeviceKind.Cpu)
            {
                read(spec, new Span<float>(Master + start, checked((int)spec.Count)));
                continue;
            }
            float[] values = new float[checked((int)spec.Count)];
            read(spec, values);
            Device.Write<float>(values, (nint)(Master + start));
            if (_compute is not null) new Tensor(Device, Place(start), Device.DType, 1, values.Length, values.Length).CopyFrom(values);
        }
        Repack(team);
    }

    /// <summary>Renews the packed copies from the master weights (CPU; on CUDA the update has done it).</summary>
    public void Repack(WorkerTeam team)
    {
        if (Device.Kind != DeviceKind.Cpu) return;
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
        foreach (DeviceBlock? buffer in new[] { _master, _grad, _firstMoment, _secondMoment, _compute }) buffer?.Dispose();
        Scalars?.Dispose();
    }

    private static bool IsDecayed(ParameterSpec spec) => spec.Role is ParameterRole.Table or ParameterRole.Matrix;

    // A cache line on the CPU; on CUDA 16 bytes of the smallest storage type, so that the layers of a group leave no gap.
    private static long Padded(Device device, long count)
    {
        int alignment = device.Kind == DeviceKind.Cpu ? 16 : 8;
        return (count + alignment - 1) / alignment * alignment;
    }

    private static DeviceBlock Flat(Device device, long count)
    {
        DeviceBlock block = device.Allocate(count * sizeof(float));
        device.Clear(block.Address, block.SizeBytes);
        return block;
    }

    private static long PackedFloats(LinearSpec group)
    {
        long stride = LinearWeight.Stride(group), layers = group.Layers.Length;
        return layers * (PackedMatrix.Length((int)stride, group.InFeatures) + stride + LinearMasters.TransposedFloats(group));
    }

    private long StartOf(Tensor parameter, nint flat, int elementBytes)
    {
        long start = (parameter.Address - flat) / elementBytes;
        return start >= 0 && start < Count && parameter.DType.SizeBytes == elementBytes ? start : -1;
    }

    private nint Place(long start) => _compute is null ? (nint)(Master + start) : _compute.Address + (nint)(start * Device.DType.SizeBytes);

    private Tensor MasterOf(ParameterSpec spec) => new(Device, (nint)(Master + _starts[spec.Name]), DType.Float32, spec.Rows, spec.Columns, spec.Columns);

    private Tensor Compute(ParameterSpec spec) =>
        Device.Kind == DeviceKind.Cpu ? MasterOf(spec) : new Tensor(Device, Place(_starts[spec.Name]), Device.DType, spec.Rows, spec.Columns, spec.Columns);

    private LinearWeight SideBySide(LinearSpec group)
    {
        ParameterSpec[] specs = [.. group.Parameters()];
        int layers = group.Layers.Length;
        for (int i = 1; i < specs.Length; i++)
            if (i != layers && _starts[specs[i].Name] != _starts[specs[i - 1].Name] + specs[i - 1].Count)
                throw new BgeMetalException("cannot train on a GPU", $"{specs[i].Name} has {group.OutFeatures} rows, a multiple of 8 was expected");
        int columns = layers * group.OutFeatures;
        Tensor bias = new(Device, Place(_starts[specs[layers].Name]), Device.DType, 1, columns, columns);
        return new LinearWeight(group, Place(_starts[specs[0].Name]), bias, layers);
    }

    private DeviceBlock LayPanels(List<LinearSpec> groups)
    {
        DeviceBlock block = Flat(Device, groups.Sum(PackedFloats));
        float* next = (float*)block.Address;
        foreach (LinearSpec group in groups)
        {
            int stride = LinearWeight.Stride(group), layers = group.Layers.Length;
            float* transposed = next + layers * PackedMatrix.Length(stride, group.InFeatures);
            float* bias = transposed + layers * LinearMasters.TransposedFloats(group);
            ParameterSpec[] specs = [.. group.Parameters()];
            LinearMasters masters = new([.. specs[..layers].Select(MasterOf)], [.. specs[layers..].Select(MasterOf)], (nint)transposed);
            Add(new LinearWeight(group, (nint)next, new Tensor(Device, (nint)bias, DType.Float32, 1, layers * stride, layers * stride), layers, masters));
            next += PackedFloats(group);
        }
        return block;
    }

    private List<ParameterSpan> MergeSpans(IReadOnlySet<string> frozen)
    {
        List<ParameterSpan> spans = [];
        for (int i = 0; i < _layout.Count; i++)
        {
            (ParameterSpec spec, long start) = _layout[i];
            long end = i + 1 < _layout.Count ? _layout[i + 1].Start : Count;
            ParameterSpan span = new(start, end - start, IsDecayed(spec), frozen.Contains(spec.Name));
            if (spans.Count > 0 && spans[^1].Decayed == span.Decayed && spans[^1].Frozen == span.Frozen) spans[^1] = spans[^1] with { Count = end - spans[^1].Start };
            else spans.Add(span);
        }
        return spans;
    }
}
