using System.Runtime.InteropServices;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>A run of parameters that the optimiser treats alike.</summary>
/// <param name="Start">First element in the flat buffers.</param>
/// <param name="Count">Elements.</param>
/// <param name="Decayed">Whether weight decay applies: to weights and tables, not to biases and LayerNorm gains.</param>
internal readonly record struct ParameterSpan(long Start, long Count, bool Decayed);

/// <summary>Spans that follow each other without a gap, which CUDA updates in one launch.</summary>
/// <param name="Start">First element in the flat buffers.</param>
/// <param name="Count">Elements.</param>
/// <param name="SpanEnds">Where each span ends, counted from the run's start, int32 [1, spans].</param>
/// <param name="SpanDecays">1 for each span that decays, else 0, int32 [1, spans].</param>
internal readonly record struct ParameterRun(long Start, long Count, Tensor SpanEnds, Tensor SpanDecays);

/// <summary>
/// The parameters of a model in training: one flat fp32 master and, in the same layout, one flat gradient and the two moments, so that zeroing is one
/// fill, the norm one reduction, the update one pass and a checkpoint one write. Decayed parameters come first; layers that share their input have their
/// weights, and their biases, one after another without gaps. Operations read copies: on the CPU packed panels of the linear layers, renewed by
/// <see cref="Repack"/> after every update; on CUDA, below fp32, one flat copy of everything in the storage type, which the update itself renews.
/// </summary>
internal sealed unsafe class TrainableParameters : ParameterStore
{
    private const int Alignment = 16;
    private readonly Device _device;
    private readonly List<(ParameterSpec Spec, long Start)> _layout = [];
    private readonly Dictionary<string, Tensor> _masters = new(StringComparer.Ordinal);
    private readonly DeviceBlock[] _flat = new DeviceBlock[Enum.GetValues<FlatBuffer>().Length];
    private readonly DeviceBlock? _compute;
    private readonly PackedWeights? _packed;
    private readonly DeviceBlock? _spanTable;

    /// <summary>Lays out room for the parameters; <paramref name="frozen"/> names those that no update touches.</summary>
    public TrainableParameters(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears, IReadOnlySet<string> frozen)
    {
        _device = device;
        List<LinearSpec> groups = [.. linears];
        foreach (ParameterSpec[] unit in Units(dense, groups))
        {
            foreach (ParameterSpec spec in unit)
            {
                _layout.Add((spec, Count));
                Count += spec.Count;
            }
            Count = Padded(Count);
        }
        for (int i = 0; i < _flat.Length; i++) _flat[i] = Zeros(Count * sizeof(float));
        if (device.DType != DType.Float32) _compute = Zeros(Count * device.DType.SizeBytes);
        foreach ((ParameterSpec spec, long start) in _layout)
        {
            _masters.Add(spec.Name, new Tensor(device, AddressOf(FlatBuffer.Master, start), DType.Float32, spec.Rows, spec.Columns, spec.Columns));
            if (spec.Role != ParameterRole.Matrix) Add(spec.Name, Compute(start, spec.Rows, spec.Columns));
        }
        if (device.Kind == DeviceKind.Cpu)
        {
            _packed = new PackedWeights(device, groups, _masters);
            foreach (LinearWeight linear in _packed.Linears) Add(linear);
        }
        else
        {
            Dictionary<string, long> starts = _layout.ToDictionary(entry => entry.Spec.Name, entry => entry.Start, StringComparer.Ordinal);
            foreach (LinearSpec group in groups)
            {
                Tensor bias = Compute(starts[group.Layers[0] + ".bias"], 1, group.Layers.Length * group.OutFeatures);
                Add(new LinearWeight(group, Compute(starts[group.Layers[0] + ".weight"], 1, 1).Address, bias, group.Layers.Length));
            }
        }
        Spans = MergeSpans(frozen);
        if (device.Kind == DeviceKind.Cpu || Spans.Count == 0) return;
        _spanTable = device.Allocate(2L * Spans.Count * sizeof(int));
        Runs = JoinRuns(_spanTable.Address);
    }

    /// <summary>Bytes that such parameters will take on the CPU.</summary>
    public static long SizeOf(IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        List<LinearSpec> groups = [.. linears];
        long count = Units(dense, groups).Sum(unit => Padded(unit.Sum(spec => spec.Count)));
        return sizeof(float) * ((4 * count) + PackedWeights.Floats(groups));
    }

    /// <summary>Elements of each flat buffer, padding included (which stays zero).</summary>
    public long Count { get; }

    /// <summary>What the optimiser updates, in order.</summary>
    public IReadOnlyList<ParameterSpan> Spans { get; }

    /// <summary>The same, joined and with their ends on the device (CUDA); empty on the CPU.</summary>
    public IReadOnlyList<ParameterRun> Runs { get; } = [];

    /// <summary>The fp32 weights (CPU).</summary>
    public float* Master => (float*)AddressOf(FlatBuffer.Master);

    /// <summary>The gradients (CPU).</summary>
    public float* Grad => (float*)AddressOf(FlatBuffer.Gradient);

    /// <summary>Adam's first moments (CPU).</summary>
    public float* FirstMoment => (float*)AddressOf(FlatBuffer.FirstMoment);

    /// <summary>Adam's second moments (CPU).</summary>
    public float* SecondMoment => (float*)AddressOf(FlatBuffer.SecondMoment);

    /// <inheritdoc/>
    public override long SizeBytes => _flat.Sum(block => block.SizeBytes) + (_compute?.SizeBytes ?? 0) + (_packed?.SizeBytes ?? 0);

    /// <summary>Every parameter with its master weights, in layout order.</summary>
    public IEnumerable<(ParameterSpec Spec, Tensor Master)> All => _layout.Select(entry => (entry.Spec, _masters[entry.Spec.Name]));

    /// <summary>Every parameter with its place in the flat buffers, in layout order.</summary>
    public IReadOnlyList<(ParameterSpec Spec, long Start)> Layout => _layout;

    /// <summary>The address of an element of a flat buffer, in the device's memory.</summary>
    public nint AddressOf(FlatBuffer buffer, long start = 0) => _flat[(int)buffer].Address + (nint)(start * sizeof(float));

    /// <summary>The address of an element's low-precision copy; 0 where operations read the master itself or packed panels.</summary>
    public nint AddressOfCopy(long start = 0) => _compute is null ? 0 : _compute.Address + (nint)(start * _device.DType.SizeBytes);

    /// <summary>The gradient of a table, a vector or the row-major weights of linear layers: a master weight, or what operations read of it.</summary>
    public Tensor GradientOf(Tensor parameter)
    {
        nint first = parameter.DType == DType.Float32 ? AddressOf(FlatBuffer.Master) : AddressOfCopy();
        long start = (parameter.Address - first) / parameter.DType.SizeBytes;
        if (start < 0 || start >= Count) throw new ArgumentException("not one of these parameters", nameof(parameter));
        return new Tensor(parameter.Device, AddressOf(FlatBuffer.Gradient, start), DType.Float32, parameter.Rows, parameter.Columns, parameter.RowStride);
    }

    /// <summary>Sets all gradients to zero; on CUDA enqueued.</summary>
    public void ZeroGradients() => _device.Clear(AddressOf(FlatBuffer.Gradient), Count * sizeof(float));

    /// <summary>A flat buffer in host memory; on CUDA a copy, for which it waits.</summary>
    public HostFloats OnHost(FlatBuffer buffer) =>
        _device.Kind == DeviceKind.Cpu ? new HostFloats(AddressOf(buffer)) : new HostFloats(_device, AddressOf(buffer), Count);

    /// <summary>Sets elements of a flat buffer from <paramref name="start"/> on.</summary>
    public void Write(FlatBuffer buffer, long start, ReadOnlySpan<float> values) => _device.Write(values, AddressOf(buffer, start));

    /// <summary>The name of the first parameter with a weight or a gradient that is not finite, in the model's order; null when all are.</summary>
    /// <param name="withGradients">False to look at the weights alone.</param>
    public string? FirstNotFinite(bool withGradients = true)
    {
        using HostFloats weights = OnHost(FlatBuffer.Master), gradients = OnHost(withGradients ? FlatBuffer.Gradient : FlatBuffer.Master);
        foreach ((ParameterSpec spec, long start) in _layout)
            for (long i = start; i < start + spec.Count; i++)
                if (!float.IsFinite(*weights.At(i)) || !float.IsFinite(*gradients.At(i))) return spec.Name;
        return null;
    }

    /// <inheritdoc/>
    public override void Fill(WorkerTeam team, ParameterReader read)
    {
        if (_device.Kind == DeviceKind.Cpu)
        {
            foreach ((ParameterSpec spec, Tensor master) in All) read(spec, new Span<float>(master.Floats, checked((int)spec.Count)));
            Repack(team);
            return;
        }
        using NativeBuffer values = NativeBuffer.OfFloats(_layout.Max(entry => entry.Spec.Count));
        foreach ((ParameterSpec spec, long start) in _layout)
        {
            Span<float> floats = new(values.Floats, checked((int)spec.Count));
            read(spec, floats);
            Write(FlatBuffer.Master, start, floats);
            if (_compute is null) continue;
            Span<byte> bytes = MemoryMarshal.AsBytes(floats);
            ElementConversion.FromFloats(floats, _device.DType, bytes);
            _device.Write<byte>(bytes[..(floats.Length * _device.DType.SizeBytes)], AddressOfCopy(start));
        }
    }

    /// <summary>Renews the packed copies from the master weights (CPU; on CUDA the update has renewed the copy).</summary>
    public void Repack(WorkerTeam team) => _packed?.Renew(team);

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (DeviceBlock block in _flat) block.Dispose();
        _compute?.Dispose();
        _packed?.Dispose();
        _spanTable?.Dispose();
    }

    private static bool IsDecayed(ParameterSpec spec) => spec.Role is ParameterRole.Table or ParameterRole.Matrix;

    private static long Padded(long count) => (count + Alignment - 1) / Alignment * Alignment;

    /// <summary>What lies without gaps: each table and vector, the weights of each group, the biases of each group; what decays first.</summary>
    private static IEnumerable<ParameterSpec[]> Units(IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> groups) =>
        dense.Select(spec => (ParameterSpec[])[spec])
            .Concat(groups.SelectMany(group => group.Parameters().GroupBy(spec => spec.Role, (_, specs) => specs.ToArray())))
            .OrderBy(unit => IsDecayed(unit[0]) ? 0 : 1);

    /// <summary>What operations read of the elements from <paramref name="start"/> on: the copy, or the master where that is read itself.</summary>
    private Tensor Compute(long start, int rows, int columns) =>
        new(_device, _compute is null ? AddressOf(FlatBuffer.Master, start) : AddressOfCopy(start), _device.DType, rows, columns, columns);

    private DeviceBlock Zeros(long sizeBytes)
    {
        DeviceBlock block = _device.Allocate(sizeBytes);
        _device.Clear(block.Address, sizeBytes);
        return block;
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

    private List<ParameterRun> JoinRuns(nint table)
    {
        List<ParameterRun> runs = [];
        for (int first = 0, count; first < Spans.Count; first += count)
        {
            count = 1;
            while (first + count < Spans.Count && Spans[first + count - 1].Start + Spans[first + count - 1].Count == Spans[first + count].Start) count++;
            long start = Spans[first].Start;
            int[] ends = new int[count], decays = new int[count];
            for (int i = 0; i < count; i++)
            {
                ends[i] = checked((int)(Spans[first + i].Start + Spans[first + i].Count - start));
                decays[i] = Spans[first + i].Decayed ? 1 : 0;
            }
            nint endsAt = table + (2 * first * sizeof(int)), decaysAt = endsAt + (count * sizeof(int));
            _device.Write<int>(ends, endsAt);
            _device.Write<int>(decays, decaysAt);
            runs.Add(new ParameterRun(start, ends[^1], new Tensor(_device, endsAt, DType.Int32, 1, count, count), new Tensor(_device, decaysAt, DType.Int32, 1, count, count)));
        }
        return runs;
    }
}
