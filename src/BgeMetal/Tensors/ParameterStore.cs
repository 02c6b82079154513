using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>Writes one parameter's values, row-major, into <paramref name="destination"/>. Called from several threads at once.</summary>
internal delegate void ParameterReader(ParameterSpec spec, Span<float> destination);

/// <summary>
/// The parameters of a model by their Hugging Face names, in the forms that operations read: tables and vectors as they are, linear weights as the
/// device's matmul wants them.
/// </summary>
internal abstract class ParameterStore : IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, LinearWeight> _linears = new(StringComparer.Ordinal);

    /// <summary>Bytes held.</summary>
    public abstract long SizeBytes { get; }

    /// <summary>Where what operations read begins; every parameter has its place behind it.</summary>
    public abstract nint Address { get; }

    /// <summary>Room for the parameters of a model that is not trained, in the forms that the device's operations read.</summary>
    public static ParameterStore ForInference(Device device, IEnumerable<ParameterSpec> dense, IEnumerable<LinearSpec> linears) =>
        device.Kind == DeviceKind.Cpu ? new InferenceParameters(device, dense, linears) : new CudaParameters(device, dense, linears);

    /// <summary>All linear layers.</summary>
    protected IReadOnlyCollection<LinearWeight> Linears => _linears.Values;

    /// <summary>A table or vector by its full name.</summary>
    public Tensor this[string name] => _tensors[name];

    /// <summary>The linear layers whose first member has the state-dict prefix <paramref name="firstLayer"/>.</summary>
    public LinearWeight Linear(string firstLayer) => _linears[firstLayer];

    /// <summary>Reads every parameter and packs the linear weights, on all threads of <paramref name="team"/>.</summary>
    public abstract void Fill(WorkerTeam team, ParameterReader read);

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Makes a table or vector known.</summary>
    protected void Add(string name, Tensor tensor) => _tensors.Add(name, tensor);

    /// <summary>Makes linear layers known under the name of the first.</summary>
    protected void Add(LinearWeight linear) => _linears.Add(linear.Spec.Layers[0], linear);
}
