using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>Alone, because what the process allocates is counted.</summary>
[CollectionDefinition(nameof(ObjectiveTests), DisableParallelization = true)]
public sealed class ObjectiveTestsAlone;

/// <summary>The contrastive objective over a whole model with dropout.</summary>
[Collection(nameof(ObjectiveTests))]
public sealed class ObjectiveTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    private const ulong Seed = 7;

    [Theory]
    [InlineData(PoolingMode.Cls, 1)]
    [InlineData(PoolingMode.Cls, 5)]
    [InlineData(PoolingMode.Mean, 4)]
    public void A_cached_gradient_is_that_of_the_whole_batch_with_the_same_dropout(PoolingMode pooling, int subBatchSize)
    {
        (double loss, float[] gradient) = Gradient(pooling, 0);
        (double cachedLoss, float[] cachedGradient) = Gradient(pooling, subBatchSize);
        Assert.Equal(loss, cachedLoss, 1e-5);
        Assert.True(Distance(gradient, cachedGradient) <= 1e-5 * Distance(gradient, new float[gradient.Length]), $"{Distance(gradient, cachedGradient):g3}");
        Assert.NotEqual(loss, Gradient(pooling, 0, seed: 8).Loss);
    }

    /// <summary>Along the gradient and along random directions, in fp32: the loss is a mean of a few terms, so differences of 1e-3 leave four digits.</summary>
    [Theory]
    [InlineData(PoolingMode.Cls)]
    [InlineData(PoolingMode.Mean)]
    public unsafe void The_gradient_of_the_whole_model_is_the_slope_of_its_loss(PoolingMode pooling)
    {
        using TrainableModel model = Load();
        using ContrastiveObjective objective = new(model, folder.Task with { Temperature = 0.5 }, pooling);
        ContrastiveBatch batch = Batch();
        objective.Backpropagate(batch, 1, Seed);
        TrainableParameters parameters = model.Parameters;
        int count = checked((int)parameters.Count);
        float[] gradient = new Span<float>(parameters.Grad, count).ToArray(), weights = new Span<float>(parameters.Master, count).ToArray();
        double norm = Distance(gradient, new float[count]);
        for (int direction = 0; direction < 4; direction++)
        {
            Random random = new(direction);
            double[] step = [.. gradient.Select(g => direction == 0 ? g / norm : (g / norm) + ((random.NextDouble() - 0.5) * 0.05))];
            double derived = 0;
            for (int i = 0; i < count; i++) derived += step[i] * gradient[i];
            const double H = 4e-3;
            double numeric = (Loss(H) - Loss(-H)) / (2 * H);
            Assert.True(Math.Abs(numeric - derived) <= 5e-3 * Math.Abs(derived), $"direction {direction}: derived {derived:g6}, by differences {numeric:g6}");

            double Loss(double h)
            {
                for (int i = 0; i < count; i++) parameters.Master[i] = (float)(weights[i] + (h * step[i]));
                parameters.Repack(model.Device.Team);
                double loss = objective.Backpropagate(batch, 0, Seed);
                weights.CopyTo(new Span<float>(parameters.Master, count));
                return loss;
            }
        }
    }

    [Theory]
    [InlineData("encoder.layer.1.intermediate.dense.weight", float.NaN, "encoder.layer.1.intermediate")]
    [InlineData("embeddings.LayerNorm.bias", float.PositiveInfinity, "embeddings.LayerNorm")]
    [InlineData("encoder.layer.2.attention.self.key.weight", float.NaN, "encoder.layer.2.attention.self")]
    [InlineData("encoder.layer.0.output.LayerNorm.weight", float.NaN, "encoder.layer.0.output")]
    public unsafe void The_first_layer_that_is_not_finite_is_named(string parameter, float value, string layer)
    {
        using TrainableModel model = Load();
        using ContrastiveObjective objective = new(model, folder.Task, PoolingMode.Cls), chunked = new(model, folder.Task with { SubBatchSize = 3 }, PoolingMode.Cls);
        ContrastiveBatch batch = Batch();
        Assert.Null(objective.FirstNotFinite(batch, Seed));
        model.Parameters.All.Single(entry => entry.Spec.Name == parameter).Master.Floats[3] = value;
        model.Parameters.Repack(model.Device.Team);
        Assert.False(double.IsFinite(objective.Backpropagate(batch, 1, Seed)));
        Assert.Equal(layer, objective.FirstNotFinite(batch, Seed));
        Assert.Equal(layer, chunked.FirstNotFinite(batch, Seed));
    }

    [Fact]
    public void A_step_in_the_steady_state_allocates_next_to_nothing()
    {
        using TrainableModel model = Load();
        using ContrastiveObjective objective = new(model, folder.Task, PoolingMode.Cls);
        AdamWOptimizer optimizer = new(model.Parameters, folder.Options("none"), model.Device);
        using StepScalars scalars = new(model.Device, 1);
        ContrastiveBatch batch = Batch();
        long managed = long.MaxValue, native = 0;
        for (int step = 0; step < 40; step++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            native = NativeBuffer.AllocatedBytes;
            scalars.Begin(1);
            model.Parameters.ZeroGradients();
            objective.Backpropagate(batch, scalars.LossGradient, (ulong)step, scalars.Loss(0));
            optimizer.Step(1e-5);
            scalars.ReadLosses();
            optimizer.Finish();
            native = NativeBuffer.AllocatedBytes - native;
            managed = Math.Min(managed, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        Assert.True(managed < 256 << 10, $"{managed} bytes");
        Assert.Equal(0, native);
    }

    [Theory]
    [InlineData(PoolingMode.Cls, 0)]
    [InlineData(PoolingMode.Mean, 0)]
    [InlineData(PoolingMode.Mean, 2)]
    public void The_predicted_memory_is_near_what_a_step_takes(PoolingMode pooling, int subBatchSize)
    {
        using TrainableModel model = Load();
        FinetuneOptions task = folder.Task with { SubBatchSize = subBatchSize };
        using ContrastiveObjective objective = new(model, task, pooling);
        ContrastiveBatch batch = Batch();
        objective.Backpropagate(batch, 1, Seed);
        TrainingMemory predicted = TrainingMemory.Of(model, task, pooling, [batch]);
        Assert.Equal(model.Parameters.SizeBytes, predicted.ParameterBytes);
        Assert.InRange(predicted.ActivationBytes, objective.PeakBytes / 1.5, objective.PeakBytes * 1.5);
    }

    [Fact]
    public void A_step_that_cannot_fit_is_refused_with_advice()
    {
        TrainingMemory memory = new(3L << 30, 5L << 30, 4096);
        memory.Require(8L << 30);
        string message = Assert.Throws<BgeMetalException>(() => memory.Require(7L << 30)).Message;
        Assert.Equal("not enough memory: training takes about 8 GiB (weights, gradients and moments 3 GiB, activations of 4,096 tokens 5 GiB), this process may use 7 GiB; "
            + "take a smaller --sub-batch-size, --per-device-train-batch-size or --passage-max-len", message);
        Assert.Contains("a smaller model", Assert.Throws<BgeMetalException>(() => TrainingMemory.RequireParameters(Device.SingleThread, long.MaxValue / 2)).Message, StringComparison.Ordinal);
    }

    private unsafe (double Loss, float[] Gradient) Gradient(PoolingMode pooling, int subBatchSize, ulong seed = Seed)
    {
        using TrainableModel model = Load();
        using ContrastiveObjective objective = new(model, folder.Task with { SubBatchSize = subBatchSize }, pooling);
        double loss = objective.Backpropagate(Batch(), 1, seed);
        return (loss, new Span<float>(model.Parameters.Grad, checked((int)model.Parameters.Count)).ToArray());
    }

    private TrainableModel Load() => TrainableModel.Load(folder.Model, new ComputeOptions { Threads = 2 }, _ => [], new HashSet<string>());

    /// <summary>Four queries with three passages each, of lengths 3 to 17.</summary>
    private static ContrastiveBatch Batch()
    {
        Random random = new(1);
        TokenSequence Text() => new((int[])[2, .. Enumerable.Range(0, random.Next(1, 16)).Select(_ => random.Next(5, 70)), 3]);
        TokenSequence[] queries = [.. Enumerable.Range(0, 4).Select(_ => Text())], passages = [.. Enumerable.Range(0, 12).Select(_ => Text())];
        return new ContrastiveBatch
        {
            Epoch = 0,
            Index = 0,
            Queries = queries,
            Passages = passages,
            GroupSize = 3,
            TeacherScores = null,
            NoInBatchNegatives = false,
            Rows = new int[4],
            Places = [.. queries.Select((_, i) => new RowPlace("rows", i + 1))],
            Tokens = queries.Sum(text => text.Length) + passages.Sum(text => text.Length),
        };
    }

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b, (x, y) => ((double)x - y) * ((double)x - y)).Sum());
}
