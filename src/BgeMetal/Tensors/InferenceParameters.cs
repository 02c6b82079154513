using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>
/// All parameters of a model for inference: tables and vectors as they are in the checkpoint, linear weights only as the packed panels that the
/// matmul kernel reads. One allocation, filled once, read by any number of threads.
/// </summary>
internal sealed unsafe class InferenceParameters : ParameterStore
{
    private readonly List<ParameterSpec> _dense;
    private readonly NativeBuffer _memory;

    /// <summary>Lays out room for the parameters; the values come with <see cref="Fill"/>.</summary>
    public InferenceParameters(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        _dense = [.. dense];
        List<LinearSpec> groups = [.. linears];
        long floats = _dense.Sum(spec => Padded(spec.Count)) + groups.Sum(group => Padded(PanelFloats(group)) + Padded(BiasColumns(group)));
        _memory = NativeBuffer.OfFloats(floats);
        float* next = _memory.Floats;
        foreach (ParameterSpec spec in _dense)
        {
            Add(spec.Name, new Tensor(device, (nint)next, DType.Float32, spec.Rows, spec.Columns, spec.Columns));
            next += Padded(spec.Count);
        }
        foreach (LinearSpec group in groups)
        {
            nint panels = (nint)next;
            next += Padded(PanelFloats(group));
            int columns = BiasColumns(group);
            Tensor bias = new(device, (nint)next, DType.Float32, 1, columns, columns);
            next += Padded(columns);
            Add(new LinearWeight(group, panels, bias, group.Layers.Length));
        }
    }

    /// <summary>Bytes held.</summary>
    public override long SizeBytes => _memory.SizeBytes;

    /// <inheritdoc/>
    public override nint Address => (nint)_memory.Floats;

    /// <summary>Reads every parameter and packs the linear weights, on all threads of <paramref name="team"/>.</summary>
    public override void Fill(WorkerTeam team, ParameterReader read)
    {
        FillJob job = new(this, read, [.. Linears.OrderByDescending(linear => (long)linear.OutColumns * linear.InFeatures)]);
        team.Run(ref job, _dense.Count + job.Linears.Length);
    }

    /// <inheritdoc/>
    public override void Dispose() => _memory.Dispose();

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

    private readonly struct FillJob(InferenceParameters store, ParameterReader read, LinearWeight[] linears) : ITeamJob
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
            read(spec, new Span<float>(store[spec.Name].Floats, checked((int)spec.Count)));
        }
    }
}
