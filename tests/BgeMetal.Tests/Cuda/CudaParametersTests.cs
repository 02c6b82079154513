using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Training;

namespace BgeMetal.Tests.Cuda;

/// <summary>Parameters in training in a GPU's memory, and their updates, against the CPU's. Kernels on the emulated GPU.</summary>
[Collection("emulated gpu")]
public sealed class CudaParametersTests
{
    private const int Hidden = 24;

    private static readonly ParameterSpec[] Dense =
    [
        new("word", ParameterRole.Table, 11, Hidden), new("position", ParameterRole.Table, 5, Hidden), new("type", ParameterRole.Table, 3, Hidden),
        new("gamma", ParameterRole.Gain, 1, Hidden), new("beta", ParameterRole.Bias, 1, 7),
    ];

    private static readonly LinearSpec[] Linears = [new(["query", "key", "value"], Hidden, Hidden), new(["odd"], 5, 7)];

    private static readonly TrainingOptions Options = new() { OutputDirectory = "", WeightDecay = 0.1, MaxGradNorm = 1 };

    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    [InlineData(DType.Float16)]
    public void Updates_equal_the_cpus_and_renew_what_operations_read(DType dtype)
    {
        using Device gpu = DevicePair.Emulated(dtype);
        using TrainableParameters expected = Create(Device.SingleThread), actual = Create(gpu);
        float[] frozen = Values(actual, FlatBuffer.Master)[Range(actual, "position")];
        AdamWOptimizer cpuOptimizer = new(expected, Options, Device.SingleThread), gpuOptimizer = new(actual, Options, gpu);
        for (int step = 1; step <= 2; step++)
        {
            UpdateResult cpu = Update(expected, cpuOptimizer, Device.SingleThread, step), cuda = Update(actual, gpuOptimizer, gpu, step);
            Assert.Equal(cpu.Norm, cuda.Norm, 1e-4 * cpu.Norm);
            Assert.False(cuda.Skipped);
        }
        Assert.Equal(2, gpuOptimizer.Updates);
        // The kernel forms 1 - 0.999 in binary32: 1.3e-5 off.
        foreach ((FlatBuffer buffer, double limit) in new[] { (FlatBuffer.Master, 1e-6), (FlatBuffer.FirstMoment, 1e-6), (FlatBuffer.SecondMoment, 2e-5) })
            Tolerance.AssertNorm(Values(actual, buffer), [.. Values(expected, buffer).Select(value => (double)value)], limit, buffer.ToString());
        Assert.Equal(frozen, Values(actual, FlatBuffer.Master)[Range(actual, "position")]);
        foreach ((string name, Tensor read) in new[] { ("word", actual["word"]), ("beta", actual["beta"]), ("key.weight", actual.Linear("query").Layers(1, 1).RowMajor), ("value.bias", actual.Linear("query").Layers(2, 1).Bias) })
            Assert.Equal(Rounded(Values(actual, FlatBuffer.Master)[Range(actual, name)], dtype), Read(read));
    }

    [Fact]
    public void A_gradient_that_is_not_finite_changes_nothing_and_halves_the_loss_scale()
    {
        using Device gpu = DevicePair.Emulated(DType.Float16);
        using TrainableParameters parameters = Create(gpu);
        AdamWOptimizer optimizer = new(parameters, Options, gpu);
        Update(parameters, optimizer, gpu, seed: 1);
        float[][] before = [.. Enum.GetValues<FlatBuffer>().Where(buffer => buffer != FlatBuffer.Gradient).Select(buffer => Values(parameters, buffer))];
        UpdateResult result = Update(parameters, optimizer, gpu, seed: 2, last: float.PositiveInfinity);
        Assert.True(result.Skipped);
        Assert.Equal((1, 32768f), (optimizer.Updates, optimizer.LossScale));
        Assert.Equal(before, [.. Enum.GetValues<FlatBuffer>().Where(buffer => buffer != FlatBuffer.Gradient).Select(buffer => Values(parameters, buffer))]);
        Assert.Equal(parameters.Layout[^1].Spec.Name, parameters.FirstNotFinite());
        Assert.Null(parameters.FirstNotFinite(withGradients: false));
        parameters.ZeroGradients();
        Assert.All(Values(parameters, FlatBuffer.Gradient), value => Assert.Equal(0, value));
    }

    [Fact]
    public void What_operations_read_and_its_master_have_one_gradient()
    {
        using Device gpu = DevicePair.Emulated(DType.BFloat16);
        using TrainableParameters parameters = Create(gpu);
        Dictionary<string, Tensor> masters = parameters.All.ToDictionary(entry => entry.Spec.Name, entry => entry.Master);
        Assert.Equal(parameters.GradientOf(masters["gamma"]).Address, parameters.GradientOf(parameters["gamma"]).Address);
        LinearWeight two = parameters.Linear("query").Layers(1, 2);
        Tensor weights = parameters.GradientOf(two.RowMajor), biases = parameters.GradientOf(two.Bias);
        Assert.Equal((2 * Hidden, Hidden, Hidden), (weights.Rows, weights.Columns, weights.RowStride));
        Assert.Equal(parameters.GradientOf(masters["key.weight"]).Address, weights.Address);
        Assert.Equal(parameters.GradientOf(masters["value.weight"]).Address, weights.RowRange(Hidden, Hidden).Address);
        Assert.Equal(parameters.GradientOf(masters["value.bias"]).Address, biases.ColumnRange(Hidden, Hidden).Address);
    }

    private static TrainableParameters Create(Device device)
    {
        TrainableParameters parameters = new(device, Dense, Linears, new HashSet<string> { "position" });
        parameters.Fill(WorkerTeam.Single, DevicePair.Read);
        return parameters;
    }

    /// <summary>An update with random gradients, times the loss scale; <paramref name="last"/> is the last parameter's last one.</summary>
    private static UpdateResult Update(TrainableParameters parameters, AdamWOptimizer optimizer, Device device, int seed, float last = 0.5f)
    {
        using StepScalars scalars = new(device, 1);
        scalars.Begin(optimizer.LossScale, 1);
        foreach ((ParameterSpec spec, long start) in parameters.Layout)
        {
            float[] gradient = [.. new RandomData(seed + spec.Name.Length).Uniform((int)spec.Count, 0.5).Select(value => (float)value * optimizer.LossScale)];
            if (spec == parameters.Layout[^1].Spec) gradient[^1] = last * optimizer.LossScale;
            parameters.Write(FlatBuffer.Gradient, start, gradient);
        }
        optimizer.Step(1e-2, scalars);
        scalars.Read();
        return optimizer.Finish(scalars);
    }

    private static unsafe float[] Values(TrainableParameters parameters, FlatBuffer buffer)
    {
        using HostFloats floats = parameters.OnHost(buffer);
        return new Span<float>(floats.At(0), checked((int)parameters.Count)).ToArray();
    }

    private static Range Range(TrainableParameters parameters, string name)
    {
        (ParameterSpec spec, long start) = parameters.Layout.Single(entry => entry.Spec.Name == name);
        return (int)start..(int)(start + spec.Count);
    }

    private static float[] Rounded(float[] values, DType dtype)
    {
        byte[] bytes = new byte[values.Length * dtype.SizeBytes];
        ElementConversion.FromFloats(values, dtype, bytes);
        ElementConversion.ToFloats(bytes, dtype, values);
        return values;
    }

    private static float[] Read(Tensor tensor)
    {
        float[] values = new float[tensor.Rows * tensor.Columns];
        tensor.CopyTo(values);
        return values;
    }
}
