using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using BgeMetal.Benchmarks.Gpu;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>launches</c>: what a pass on a GPU costs the host, measured against a driver without a GPU: launches, copies, waits, microseconds and managed bytes, beside the time
/// that the GPU is predicted to need, and so where it would wait for the host. Only the columns named host are measured.
/// </summary>
internal static class LaunchesCommand
{
    private static readonly (int Sequences, int Length)[] s_batches = [(1, 16), (1, 64), (1, 256), (32, 128), (128, 128)];

    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape", DefaultValueFactory = _ => "bge-small-en" };
        Option<int> runs = new("--runs") { Description = "Passes whose median counts", DefaultValueFactory = _ => 300 };
        Command command = new("launches", "The host's cost of passes on a GPU, without a GPU, and the GPU's predicted time") { model, runs };
        command.SetAction(parsed => Run(EncoderShape.Named(parsed.GetValue(model)!), parsed.GetValue(runs)));
        return command;
    }

    private static int Run(EncoderShape shape, int runs)
    {
        using ModelFolder folder = new(EncoderWeights.Random(shape, 42), []);
        using StubGpu gpu = new();
        Console.WriteLine($"{shape.Name}, bf16; host: measured against the stub driver, median of {runs}; driver and GPU: predicted at {PredictedGpu.Efficiency:P0} of the peaks");
        Console.WriteLine("pass               launches graphs copies waits | host us  ns/call  bytes | driver us | GPU us " + string.Join("  idle ", PredictedGpu.All.Select(g => $"{g.Name,6}")) + "  idle");
        using (Embedder embedder = Embedder.Load(folder.Path, new EmbedderOptions { Pooling = PoolingMode.Cls, Compute = Compute(gpu) }))
        {
            foreach ((int sequences, int length) in s_batches)
            {
                TokenSequence[] texts = Texts(shape, sequences, length);
                float[] vectors = new float[texts.Length * embedder.Dimensions];
                Report($"embed {sequences} x {length}", gpu, runs, () => embedder.EmbedSequences(texts, vectors), PredictedTime.Forward(shape, sequences, length));
            }
        }
        using TrainableModel trained = TrainableModel.Load(folder.Path, Compute(gpu), _ => [], new HashSet<string>());
        using ContrastiveObjective objective = new(trained, new FinetuneOptions { TrainData = [] }, PoolingMode.Cls);
        AdamWOptimizer optimizer = new(trained.Parameters, new TrainingOptions { OutputDirectory = folder.Path }, trained.Device);
        using StepScalars scalars = new(trained.Device, 1);
        foreach (int queries in (int[])[8, 32, 128])
        {
            const int length = 64;
            ContrastiveBatch batch = Batch(shape, queries, length);
            Report($"train {3 * queries} x {length}", gpu, Math.Max(10, runs / 10), () => Step(trained, objective, optimizer, scalars, batch), PredictedTime.Step(shape, 3 * queries, length));
        }
        return 0;
    }

    private static ComputeOptions Compute(StubGpu gpu) => new() { Threads = 1, Opener = () => gpu.Open(DType.BFloat16) };

    private static TokenSequence[] Texts(EncoderShape shape, int sequences, int length) =>
        [.. Workload.Texts(shape.VocabularySize, 1, Enumerable.Repeat(length, sequences)).Select(ids => new TokenSequence(ids))];

    /// <summary>Queries with two passages each, all texts of one length.</summary>
    private static ContrastiveBatch Batch(EncoderShape shape, int queries, int length) => new()
    {
        Epoch = 0,
        Index = 0,
        Queries = Texts(shape, queries, length),
        Passages = Texts(shape, 2 * queries, length),
        GroupSize = 2,
        NoInBatchNegatives = false,
        Rows = new int[queries],
        Places = [.. Enumerable.Range(1, queries).Select(line => new RowPlace("rows", line))],
        Tokens = 3 * queries * length,
    };

    /// <summary>As the trainer's, without its log.</summary>
    private static void Step(TrainableModel model, ContrastiveObjective objective, AdamWOptimizer optimizer, StepScalars scalars, ContrastiveBatch batch)
    {
        scalars.Begin(1);
        model.Parameters.ZeroGradients();
        objective.Backpropagate(batch, scalars.LossGradient, 1, scalars.Loss(0));
        optimizer.Step(1e-5);
        scalars.ReadLosses();
        optimizer.Finish();
    }

    private static void Report(string what, StubGpu gpu, int runs, Action pass, PredictedTime predicted)
    {
        for (int i = 0; i < runs / 3 + 4; i++) pass();
        gpu.Take();
        double[] us = new double[runs];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < runs; i++)
        {
            long start = Stopwatch.GetTimestamp();
            pass();
            us[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }
        long bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / runs;
        DriverCalls calls = gpu.Take();
        long launches = calls.Launches / runs, copies = calls.Copies / runs, waits = calls.Waits / runs, replays = calls.Replays / runs;
        Array.Sort(us);
        double host = us[runs / 2], driver = launches * PredictedGpu.LaunchUs + copies * PredictedGpu.CopyUs + waits * PredictedGpu.WaitUs + replays * PredictedGpu.ReplayUs;
        double least = replays > 0 ? PredictedGpu.LeastInGraphUs : PredictedGpu.LeastUs;
        string gpus = string.Join("  ", PredictedGpu.All.Select(g =>
        {
            // The GPU is done when it has worked, but not before the host has handed everything to it.
            double busy = predicted.GpuUs(g, launches, least), idle = Math.Max(0, 1 - (busy / Math.Max(busy, host + driver)));
            return string.Create(CultureInfo.InvariantCulture, $"{busy,6:F0} {100 * idle,4:F0}%");
        }));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{what,-18} {launches,8} {replays,6} {copies,6} {waits,5} | {host,7:F1} {1000 * host / Math.Max(1, launches + copies + waits + replays),8:F0} {bytes,6} | {driver,9:F0} | {gpus}"));
    }
}
