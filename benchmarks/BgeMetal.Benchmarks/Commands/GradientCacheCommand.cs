using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>gradient-cache</c>: one contrastive step of a large batch, whole and in chunks with cached gradients: the same loss and gradient, dropout
/// included, at what memory and in what time.
/// </summary>
internal static class GradientCacheCommand
{
    private const double Tolerance = 1e-5;
    private const ulong Seed = 7;

    /// <summary>Small enough that 12,288 texts and all their activations fit into memory at once.</summary>
    private static readonly EncoderShape s_mini = new("mini", 2, 128, 4, 512, 8192);

    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape: mini or a published one's name", DefaultValueFactory = _ => s_mini.Name };
        Option<int> batch = new("--batch-size") { Description = "Queries of the step", DefaultValueFactory = _ => 4096 };
        Option<int> group = new("--group-size") { Description = "Passages of a query", DefaultValueFactory = _ => 2 };
        Option<int> chunk = new("--sub-batch-size") { Description = "Texts of a chunk", DefaultValueFactory = _ => 64 };
        Option<int> length = new("--passage-length") { Description = "Longest passage in tokens; queries have at most half of it", DefaultValueFactory = _ => 32 };
        Option<int> threads = new("--threads") { Description = "Threads", DefaultValueFactory = _ => Environment.ProcessorCount };
        Command command = new("gradient-cache", "Memory and time of a large batch, whole and by gradient caching") { model, batch, group, chunk, length, threads };
        command.SetAction(parsed =>
        {
            string name = parsed.GetValue(model)!;
            EncoderShape shape = name == s_mini.Name ? s_mini : EncoderShape.Named(name);
            return Run(shape, Batch(shape.VocabularySize, parsed.GetValue(batch), parsed.GetValue(group), parsed.GetValue(length)),
                parsed.GetValue(chunk), parsed.GetValue(threads));
        });
        return command;
    }

    private static int Run(EncoderShape shape, ContrastiveBatch batch, int chunk, int threads)
    {
        using ModelFolder folder = new(EncoderWeights.Random(shape, 42), []);
        Outcome whole = Step(folder.Path, batch, 0, threads), cached = Step(folder.Path, batch, chunk, threads);
        double gradient = Distance(cached.Gradient, whole.Gradient) / Length(whole.Gradient);
        double loss = Math.Abs(cached.Loss - whole.Loss) / Math.Abs(whole.Loss);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{shape.Name}, {batch.Queries.Count} queries x {batch.GroupSize} passages, {batch.Tokens} tokens, dropout 0.1, {threads} threads"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"whole batch:         loss {whole.Loss:R}, activations {whole.PeakBytes / 1e6:F1} MB, {whole.Seconds:F2} s"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"chunks of {chunk,4} texts: loss {cached.Loss:R}, activations {cached.PeakBytes / 1e6:F1} MB, {cached.Seconds:F2} s"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"differences: loss {loss:E1}, gradient {gradient:E1} of its length; memory {(double)whole.PeakBytes / cached.PeakBytes:F1}x less, time {cached.Seconds / whole.Seconds:F2}x"));
        if (loss <= Tolerance && gradient <= Tolerance) return 0;
        Console.Error.WriteLine($"error: the two differ by more than {Tolerance}");
        return 1;
    }

    private static unsafe Outcome Step(string model, ContrastiveBatch batch, int chunk, int threads)
    {
        using TrainableModel trained = TrainableModel.Load(model, new ComputeOptions { Threads = threads }, _ => [], new HashSet<string>());
        using ContrastiveObjective objective = new(trained, new FinetuneOptions { TrainData = [], SubBatchSize = chunk, Temperature = 0.05 }, PoolingMode.Mean);
        long start = Stopwatch.GetTimestamp();
        double loss = objective.Backpropagate(batch, 1, Seed);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return new Outcome(loss, new Span<float>(trained.Parameters.Grad, checked((int)trained.Parameters.Count)).ToArray(), objective.PeakBytes, seconds);
    }

    private static ContrastiveBatch Batch(int vocabulary, int queries, int group, int longest)
    {
        TokenSequence[] Texts(int seed, int count, int most)
        {
            Random random = new(seed);
            return [.. Workload.Texts(vocabulary, seed, Enumerable.Range(0, count).Select(_ => random.Next(3, most + 1))).Select(ids => new TokenSequence(ids))];
        }
        TokenSequence[] asked = Texts(1, queries, Math.Max(3, longest / 2)), passages = Texts(2, queries * group, longest);
        return new ContrastiveBatch
        {
            Epoch = 0,
            Index = 0,
            Queries = asked,
            Passages = passages,
            GroupSize = group,
            TeacherScores = null,
            NoInBatchNegatives = false,
            Rows = new int[queries],
            Places = [.. asked.Select((_, i) => new RowPlace("rows", i + 1))],
            Tokens = asked.Sum(text => text.Length) + passages.Sum(text => text.Length),
        };
    }

    private static double Length(float[] vector) => Math.Sqrt(vector.Sum(x => (double)x * x));

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b, (x, y) => ((double)x - y) * ((double)x - y)).Sum());

    private readonly record struct Outcome(double Loss, float[] Gradient, long PeakBytes, double Seconds);
}
