using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Tensors;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Cuda;

/// <summary>The same parameters on the CPU and on an emulated GPU, and what a forward pass makes of them on each.</summary>
internal sealed class DevicePair : IDisposable
{
    private readonly Device _cuda;
    private readonly ParameterStore _cpuParameters;
    private readonly ParameterStore _cudaParameters;

    public DevicePair(DType dtype, IReadOnlyList<ParameterSpec> dense, IReadOnlyList<LinearSpec> linears)
    {
        _cuda = Emulated(dtype);
        (_cpuParameters, _cudaParameters) = (ParameterStore.ForInference(Device.SingleThread, dense, linears), ParameterStore.ForInference(_cuda, dense, linears));
        foreach (ParameterStore store in new[] { _cpuParameters, _cudaParameters }) store.Fill(WorkerTeam.Single, Read);
    }

    /// <summary>An emulated GPU with little workspace; on a machine that has a GPU, that one, so that whole models are tried there too.</summary>
    public static Device Emulated(DType dtype) => Device.Cuda(CudaPresence.IsAvailable ? CudaDevice.Open() : new EmulatedDevice(8), dtype, threads: 2, workspaceFloats: 1 << 20);

    /// <summary>Values that depend on the parameter's name alone.</summary>
    public static void Read(ParameterSpec spec, Span<float> destination)
    {
        double[] values = new RandomData(spec.Name.Sum(letter => letter)).Uniform((int)spec.Count, 0.5);
        for (int i = 0; i < values.Length; i++) destination[i] = (float)values[i] + (spec.Role == ParameterRole.Gain ? 1 : 0);
    }

    /// <summary>An activation of a tape's device with random values that both devices can hold.</summary>
    public static Tensor Input(Tape tape, int rows, int columns, int seed)
    {
        Tensor tensor = tape.Arena.Activation(rows, columns);
        tensor.CopyFrom([.. new RandomData(seed).Integers(rows * columns, 64).Select(value => (float)value / 64)]);
        return tensor;
    }

    /// <summary>What a forward pass gives on the CPU and on the emulated GPU.</summary>
    public (float[] Expected, float[] Actual) Run(Func<Tape, ParameterStore, Tensor> forward) =>
        (Run(Device.SingleThread, _cpuParameters, forward), Run(_cuda, _cudaParameters, forward));

    /// <summary>Fails unless both devices give the same up to rounding of the storage type.</summary>
    public void AssertSame(string what, Func<Tape, ParameterStore, Tensor> forward)
    {
        (float[] expected, float[] actual) = Run(forward);
        Tolerance.AssertNorm(actual, [.. expected.Select(value => (double)value)], Limit(_cuda.DType), what);
    }

    /// <summary>The norm error that one operation may have in a storage type.</summary>
    public static double Limit(DType dtype) => dtype switch { DType.BFloat16 => 6e-3, DType.Float16 => 1e-3, _ => 1e-6 };

    public void Dispose()
    {
        _cpuParameters.Dispose();
        _cudaParameters.Dispose();
        _cuda.Dispose();
    }

    private static float[] Run(Device device, ParameterStore parameters, Func<Tape, ParameterStore, Tensor> forward)
    {
        using Arena arena = new(device);
        using Tape tape = Tape.Inference(arena);
        Tensor result = forward(tape, parameters);
        float[] values = new float[result.Rows * result.Columns];
        result.CopyTo(values);
        return values;
    }
}
