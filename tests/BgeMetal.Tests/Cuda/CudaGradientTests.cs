using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Ops;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Training;
using Activation = BgeMetal.Ops.Activation;

namespace BgeMetal.Tests.Cuda;

/// <summary>Losses, gradients and updates on the emulated GPU against the CPU.</summary>
[Collection("emulated gpu")]
public sealed class CudaGradientTests
{
    private const int Hidden = 16, Wide = 24;

    private static readonly ParameterSpec[] Dense =
    [
        new("word", ParameterRole.Table, 9, Hidden, PaddingRow: 0), new("position", ParameterRole.Table, 8, Hidden), new("type", ParameterRole.Table, 2, Hidden),
        new("gamma", ParameterRole.Gain, 1, Hidden), new("beta", ParameterRole.Bias, 1, Hidden),
    ];

    private static readonly LinearSpec[] Linears = [new(["query", "key"], Hidden, Hidden), new(["up"], Wide, Hidden), new(["down"], Hidden, Wide)];

    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    public void Gradients_are_the_cpus(DType dtype)
    {
        (double expectedLoss, Dictionary<string, float[]> expected) = Gradients(Device.SingleThread);
        using Device gpu = DevicePair.Emulated(dtype);
        (double loss, Dictionary<string, float[]> actual) = Gradients(gpu);
        Assert.Equal(expectedLoss, loss, dtype == DType.Float32 ? 1e-5 : 0.05);
        foreach ((string name, float[] gradient) in expected)
            Tolerance.AssertNorm(actual[name], [.. gradient.Select(value => (double)value)], dtype == DType.Float32 ? 2e-5 : 0.05, name);
    }

    [Fact]
    public unsafe void Updates_are_the_cpus()
    {
        using Device gpu = DevicePair.Emulated(DType.Float32);
        using TrainableParameters cpuParameters = Load(Device.SingleThread, frozen: "position"), gpuParameters = Load(gpu, frozen: "position");
        TrainingOptions options = new() { OutputDirectory = "", WeightDecay = 0.1, MaxGradNorm = 0.5 };
        AdamWOptimizer onCpu = new(cpuParameters, options, Device.SingleThread), onGpu = new(gpuParameters, options, gpu);
        for (int step = 0; step < 3; step++)
        {
            double expected = Step(Device.SingleThread, cpuParameters, onCpu), actual = Step(gpu, gpuParameters, onGpu);
            Assert.Equal(expected, actual, 1e-4 * expected);
        }
        foreach ((ParameterSpec spec, Tensor _) in cpuParameters.All)
        {
            float[] weights = cpuParameters.ReadBack(cpuParameters.Master + cpuParameters.StartOf(spec), spec);
            Tolerance.AssertNorm(gpuParameters.ReadBack(gpuParameters.Master + gpuParameters.StartOf(spec), spec), [.. weights.Select(value => (double)value)], 1e-4, spec.Name);
            if (spec.Name != "position") continue;
            float[] start = new float[weights.Length];
            DevicePair.Read(spec, start);
            Assert.Equal(start, weights);
            Assert.Equal(start, gpuParameters.ReadBack(gpuParameters.Master + gpuParameters.StartOf(spec), spec));
        }
    }

    [Fact]
    public unsafe void A_step_whose_gradients_overflow_changes_nothing_and_halves_the_loss_scale()
    {
        using Device gpu = DevicePair.Emulated(DType.Float16);
        using TrainableParameters parameters = Load(gpu);
        AdamWOptimizer optimizer = new(parameters, new TrainingOptions { OutputDirectory = "" }, gpu);
        Assert.Equal(65536, optimizer.Scaler.Scale);
        ParameterSpec gamma = Dense[3];
        float[] before = parameters.ReadBack(parameters.Master + parameters.StartOf(gamma), gamma);
        foreach (float bad in new[] { float.PositiveInfinity, float.NaN })
        {
            gpu.Write<float>([bad], (nint)parameters.Grad);
            optimizer.Step(1);
            Assert.False(double.IsFinite(optimizer.Finish()));
            Assert.Equal(0, optimizer.Updates);
            Assert.Equal(before, parameters.ReadBack(parameters.Master + parameters.StartOf(gamma), gamma));
        }
        optimizer.Scaler.Overflow(0);
        Assert.Equal(32768, optimizer.Scaler.Scale);
        parameters.ZeroGradients();
        gpu.Write<float>([3 * 32768f, 4 * 32768f], (nint)parameters.Grad);
        optimizer.Step(1);
        Assert.Equal(5, optimizer.Finish(), 1e-5);
        Assert.Equal((1, 1), (optimizer.Updates, optimizer.Scaler.GoodSteps));
    }

    [Fact]
    public void The_loss_scale_doubles_after_two_thousand_good_steps_and_gives_up_at_last()
    {
        LossScaler scaler = new(true), off = new(false);
        for (int step = 0; step < 1999; step++) scaler.Good();
        Assert.Equal((65536, 1999), (scaler.Scale, scaler.GoodSteps));
        scaler.Good();
        Assert.Equal((131072, 0), (scaler.Scale, scaler.GoodSteps));
        scaler.Restore(2, 7);
        scaler.Overflow(0);
        Assert.Equal((1, 0), (scaler.Scale, scaler.GoodSteps));
        for (int i = 0; i < 24; i++) scaler.Overflow(11);
        Assert.Contains("step 12", Assert.Throws<BgeMetalException>(() => scaler.Overflow(11)).Message, StringComparison.Ordinal);
        off.Good();
        Assert.Equal(1, off.Scale);
    }

    private static double Step(Device device, TrainableParameters parameters, AdamWOptimizer optimizer)
    {
        parameters.ZeroGradients();
        Backpropagate(device, parameters);
        optimizer.Step(1e-2);
        return optimizer.Finish();
    }

    private static unsafe (double Loss, Dictionary<string, float[]> Gradients) Gradients(Device device)
    {
        using TrainableParameters parameters = Load(device);
        double loss = Backpropagate(device, parameters);
        return (loss, parameters.All.ToDictionary(entry => entry.Spec.Name, entry => parameters.ReadBack(parameters.Grad + parameters.StartOf(entry.Spec), entry.Spec)));
    }

    private static TrainableParameters Load(Device device, string frozen = "")
    {
        TrainableParameters parameters = new(device, Dense, Linears, new HashSet<string> { frozen });
        parameters.Fill(WorkerTeam.Single, DevicePair.Read);
        return parameters;
    }

    /// <summary>Everything but attention, with dropout; x is read three times, once as a column range.</summary>
    private static double Backpropagate(Device device, TrainableParameters parameters)
    {
        using Arena arena = new(device);
        using Tape tape = Tape.Record(arena, parameters, seed: 5);
        PackedBatch packed = new(PositionRule.Bert);
        foreach (int length in new[] { 3, 1, 4, 2 }) packed.Add(new TokenSequence(Enumerable.Range(0, length).Select(i => (length + 3 * i) % 9).ToArray()));
        PackedTensors batch = packed.Upload(arena);
        EmbeddingTables tables = new(parameters["word"], parameters["position"], parameters["type"], 0, -1);
        Tensor x = tape.Dropout(tape.EmbeddingLayerNorm(batch, tables, parameters["gamma"], parameters["beta"], 1e-5f), 0.1f, firstRow: 5);
        LinearWeight side = parameters.Linear("query");
        Tensor both = tape.Linear(x, side);
        Tensor up = tape.Linear(side.Part(both, 1), parameters.Linear("up"), Activation.Gelu);
        Tensor y = tape.AddLayerNorm(tape.Dropout(tape.Linear(up, parameters.Linear("down")), 0.2f), x, parameters["gamma"], parameters["beta"], 1e-5f);
        Tensor first = tape.ClsPooling(y, batch.CuSeqlens), mean = tape.MeanPooling(x, batch.CuSeqlens);
        Tensor vectors = tape.EmbeddingOfVectors(mean, batch, tables);
        Tensor whole = tape.InfoNce(tape.NormalizeRows(first), tape.NormalizeRows(tape.MeanPooling(vectors, batch.CuSeqlens)), 1, 0.5f, inBatch: true);
        Tensor cut = tape.InfoNce(tape.NormalizeRows(first.ColumnRange(0, 8)), tape.NormalizeRows(tape.ClsPooling(y, batch.CuSeqlens).ColumnRange(0, 8)), 1, 0.5f, inBatch: true);
        Tensor loss = tape.WeightedSum([whole, cut], [1, 0.5f]);
        double value = loss.Value;
        tape.Backward(loss, 1);
        return value;
    }
}
