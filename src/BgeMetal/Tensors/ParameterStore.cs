using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>Writes one parameter's values, row-major, into <paramref name="destination"/>. Called from several threads at once.</summary>
internal delegate void ParameterReader(ParameterSpec spec, Span<float> destination);

/// <summary>
/// All parameters of a model for inference: tables and vectors as they are in the checkpoint, linear weights only as the packed panels that the
/// matmul kernel reads. One allocation, filled once, read by any number of threads.
/// </summary>
internal sealed unsafe class ParameterStore : IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, LinearWeight> _linears = new(StringComparer.Ordinal);
    private readonly List<ParameterSpec> _dense;
    private readonly NativeBuffer _memory;

    /// <summary>Lays out room for the parameters; the values come with <see cref="Fill"/>.</summary>
    public ParameterStore(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        _dense = [.. dense];
        List<LinearSpec> groups = [.. linears];
        long floats = _dense.Sum(spec => Padded(spec.Count)) + groups.Sum(group => Padded(PanelFloats(group)) + Padded(BiasColumns(group)));
        _memory = NativeBuffer.OfFloats(floats);
        float* next = _memory.Floats;
        foreach (ParameterSpec spec in _dense)
        {
            _tensors.Add(spec.Name, new Tensor(device, (nint)next, DType.Float32, spec.Rows, spec.Columns, spec.Columns));
            next += Padded(spec.Count);
        }
        foreach (LinearSpec group in groups)
        {
            nint panels = (nint)next;
            next += Padded(PanelFloats(group));
            int columns = BiasColumns(group);
            Tensor bias = new(device, (nint)next, DType.Float32, 1, columns, columns);
            next += Padded(columns);
            _linears.Add(group.Layers[0], new LinearWeight(group, panels, bias, group.Layers.Length));
        }
    }

    /// <summary>Bytes held.</summary>
    public long SizeBytes => _memory.SizeBytes;

    /// <summary>A table or vector by its full name.</summary>
    public Tensor this[string name] => _tensors[name];

    /// <summary>The linear layers whose first member has the state-dict prefix <paramref name="firstLayer"/>.</summary>
    public LinearWeight Linear(string firstLayer) => _linears[firstLayer];

    /// <summary>Reads every parameter and packs the linear weights, on all threads of <paramref name="team"/>.</summary>
    public void Fill(WorkerTeam team, ParameterReader read)
    {
        FillJob job = new(this, read, [.. _linears.Values.OrderByDescending(linear => (long)linear.OutColumns * linear.InFeatures)]);
        team.Run(ref job, _dense.Count + job.Linears.Length);
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private static long Padded(long floats) => (floats + 15) / 16 * 16;

    private static long PanelFloats(LinearSpec group) =>
        group.Layers.Length * PackedMatrix.Length(LinearWeight.Stride(group), group.InFeatures);

    private static int BiasColumns(LinearSpec group) => group.Layers.Length * LinearWeight.Stride(group);

    private static void Pack(LinearWeight linear, ParameterReader read)
    {
        LinearSpec spec = linear.Spec;
        int stride = LinearWeight.Stride(spec);
        using NativeBuffer rowMajor = NativeBuffer.OfFloats((long)spec.OutFeatures * spec.InFeatures);
        float* values = rowMajor.Floats;
        float* bias = (linear.Layers(0, spec.Layers.Length)).Bias.Floats;
        foreach ((int index, string layer) in spec.Layers.Index())
        {
            read(new ParameterSpec(layer + ".weight", ParameterRole.Matrix, spec.OutFeatures, spec.InFeatures),
                new Span<float>(values, checked(spec.OutFeatures * spec.InFeatures)));
            PackedMatrix.Pack(WorkerTeam.Single, values, spec.InFeatures, spec.OutFeatures, spec.InFeatures,
                linear.Panels + (long)index * stride * spec.InFeatures);
            Span<float> layerBias = new(bias + index * stride, stride);
            layerBias.Clear();
            read(new ParameterSpec(layer + ".bias", ParameterRole.Bias, 1, spec.OutFeatures), layerBias[..spec.OutFeatures]);
        }
    }

    private readonly struct FillJob(ParameterStore store, ParameterReader read, LinearWeight[] linears) : ITeamJob
    {
        public LinearWeight[] Linears => linears;

        public void Execute(int part, int worker)
        {
            if (part < linears.Length)
            {
                Pack(linears[part], read);
                return;
            }
            ParameterSpec spec = store._dense[part - linears.Length];
            read(spec, new Span<float>(store._tensors[spec.Name].Floats, checked((int)spec.Count)));
        }
    }
}
