using System.Runtime.InteropServices;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>
/// All parameters of a model for inference on CUDA, in one allocation of device memory and in the device's storage type: tables and vectors as they are
/// in the checkpoint, linear weights row-major, layers that share their input one below the other, followed by their biases.
/// </summary>
internal sealed class CudaParameters : ParameterStore
{
    private const int Alignment = 8;
    private readonly Device _device;
    private readonly DeviceBlock _memory;
    private readonly List<(ParameterSpec Spec, nint Address)> _places = [];
    private readonly Lock _upload = new();

    /// <summary>Lays out room for the parameters; the values come with <see cref="Fill"/>.</summary>
    public CudaParameters(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears)
    {
        _device = device;
        List<ParameterSpec> vectors = [.. dense];
        List<LinearSpec> groups = [.. linears];
        long elements = vectors.Sum(spec => Padded(spec.Count)) + groups.Sum(group => Padded(WeightCount(group)) + Padded(BiasCount(group)));
        _memory = device.Allocate(elements * device.DType.SizeBytes);
        nint next = _memory.Address;
        foreach (ParameterSpec spec in vectors)
        {
            Add(spec.Name, new Tensor(device, next, device.DType, spec.Rows, spec.Columns, spec.Columns));
            _places.Add((spec, next));
            next += Bytes(Padded(spec.Count));
        }
        foreach (LinearSpec group in groups)
        {
            nint weights = next, biases = weights + Bytes(Padded(WeightCount(group)));
            int columns = BiasCount(group);
            Add(new LinearWeight(group, weights, new Tensor(device, biases, device.DType, 1, columns, columns), group.Layers.Length));
            Place(group, weights, biases);
            next = biases + Bytes(Padded(columns));
        }
    }

    /// <summary>Bytes held.</summary>
    public override long SizeBytes => _memory.SizeBytes;

    /// <inheritdoc/>
    public override nint Address => _memory.Address;

    /// <summary>Reads and rounds every parameter on all threads of <paramref name="team"/>, largest first, and copies them to the device one after another.</summary>
    public override void Fill(WorkerTeam team, ParameterReader read)
    {
        FillJob job = new(this, read, [.. _places.OrderByDescending(place => place.Spec.Count)]);
        team.Run(ref job, _places.Count);
        _device.Kernels.Synchronize();
    }

    /// <inheritdoc/>
    public override void Dispose() => _memory.Dispose();

    private static long Padded(long elements) => (elements + Alignment - 1) / Alignment * Alignment;

    private static long WeightCount(LinearSpec group) => (long)group.Layers.Length * group.OutFeatures * group.InFeatures;

    private static int BiasCount(LinearSpec group) => group.Layers.Length * group.OutFeatures;

    private nint Bytes(long elements) => (nint)(elements * _device.DType.SizeBytes);

    private void Place(LinearSpec group, nint weights, nint biases)
    {
        int layers = group.Layers.Length;
        foreach ((int index, ParameterSpec spec) in group.Parameters().Index())
            _places.Add((spec, index < layers ? weights + Bytes(index * spec.Count) : biases + Bytes((index - layers) * spec.Count)));
    }

    private unsafe void Load(ParameterSpec spec, nint address, ParameterReader read)
    {
        using NativeBuffer values = NativeBuffer.OfFloats(spec.Count);
        int count = checked((int)spec.Count);
        Span<float> floats = new(values.Floats, count);
        read(spec, floats);
        Span<byte> bytes = MemoryMarshal.AsBytes(floats);
        ElementConversion.FromFloats(floats, _device.DType, bytes);
        // Pageable memory: the copy has left it when the call returns.
        lock (_upload) _device.Kernels.CopyToDevice((nint)values.Floats, address, spec.Count * _device.DType.SizeBytes);
    }

    private readonly struct FillJob(CudaParameters store, ParameterReader read, (ParameterSpec Spec, nint Address)[] places) : ITeamJob
    {
        public void Execute(int part, int worker) => store.Load(places[part].Spec, places[part].Address, read);
    }
}
