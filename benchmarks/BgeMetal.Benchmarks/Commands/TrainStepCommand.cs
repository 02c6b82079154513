using System.CommandLine;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Retrieval;
using BgeMetal.Training;

namespace BgeMetal.Benchmarks.Commands;

/// <summary><c>train-step</c>: tokens a second of contrastive fine-tuning, dropout included, from token ids with the lengths of real queries and passages.</summary>
internal static class TrainStepCommand
{
    private const int QueryLength = 64, PassageLength = 256;

    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape", DefaultValueFactory = _ => "bge-small-zh" };
        Option<int> batch = new("--batch-size") { Description = "Queries of a step", DefaultValueFactory = _ => 8 };
        Option<int> group = new("--group-size") { Description = "Passages of a query", DefaultValueFactory = _ => 2 };
        Option<int> threads = new("--threads") { Description = "Threads", DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<int> steps = new("--steps") { Description = "Steps, a quarter of them before the clock starts", DefaultValueFactory = _ => 24 };
        Option<int> seed = new("--seed") { Description = "Seed of weights and texts", DefaultValueFactory = _ => 42 };
        Command command = new("train-step", "Speed of a fine-tuning step") { model, batch, group, threads, steps, seed };
        command.SetAction(parsed => Run(EncoderShape.Named(parsed.GetValue(model)!), parsed.GetValue(batch), parsed.GetValue(group), parsed.GetValue(threads), parsed.GetValue(steps), parsed.GetValue(seed)));
        return command;
    }

    private static int Run(EncoderShape shape, int batch, int group, int threads, int steps, int seed)
    {
        using ModelFolder folder = new(EncoderWeights.Random(shape, seed), []);
        string rows = Path.Combine(folder.Path, "rows.jsonl");
        WriteRows(rows, shape.VocabularySize, batch * 16, group, seed);
        FinetuneOptions task = new() { TrainData = [rows], TrainGroupSize = group, QueryMaxLength = QueryLength, PassageMaxLength = PassageLength };
        TrainingOptions options = new()
        {
            OutputDirectory = Path.Combine(folder.Path, "output"),
            BatchSize = batch,
            MaxSteps = steps,
            Compute = new ComputeOptions { Threads = threads },
        };
        List<(double Seconds, long Tokens)> measured = [];
        long last = System.Diagnostics.Stopwatch.GetTimestamp();
        TrainingSummary summary = EmbedderTrainer.Run(folder.Path, task, options, step =>
        {
            long now = System.Diagnostics.Stopwatch.GetTimestamp();
            if (step.Step > steps / 4) measured.Add((System.Diagnostics.Stopwatch.GetElapsedTime(last, now).TotalSeconds, step.Tokens));
            last = now;
        });
        double[] rates = [.. measured.Select(step => step.Tokens / step.Seconds).Order()];
        Console.WriteLine($"{shape.Name}, batch {batch}, group {group}, {threads} threads, {measured.Average(step => step.Tokens):F0} tokens a step");
        Console.WriteLine($"tokens/s: best step {rates[^1]:F0}, median {rates[rates.Length / 2]:F0}, all {measured.Sum(step => step.Tokens) / measured.Sum(step => step.Seconds):F0}");
        Console.WriteLine($"memory: {summary.PeakBytes / 1e6:F0} MB held, {summary.PredictedBytes / 1e6:F0} MB predicted");
        return 0;
    }

    /// <summary>Rows of ready-made tokens; lengths as in <see cref="Workload"/>'s queries and passages.</summary>
    private static void WriteRows(string path, int vocabulary, int count, int group, int seed)
    {
        IReadOnlyList<Workload> workloads = Workload.All(vocabulary, seed);
        int[][] queries = workloads.First(workload => workload.Name == "queries-sorted").TokenIds, passages = workloads.First(workload => workload.Name == "passages-sorted").TokenIds;
        Random random = new(seed);
        string Text(int[][] from, int longest) => $"{{\"input_ids\":[{string.Join(',', from[random.Next(from.Length)].Take(longest))}]}}";
        File.WriteAllLines(path, Enumerable.Range(0, count).Select(_ => $"{{\"query\":{Text(queries, QueryLength)},\"pos\":[{Text(passages, PassageLength)}],"
            + $"\"neg\":[{string.Join(',', Enumerable.Range(0, Math.Max(1, group - 1)).Select(_ => Text(passages, PassageLength)))}]}}"));
    }
}
