using System.Text.Json;
using BgeMetal.Testing;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>Every training run of the fixtures folder: losses, gradient norms, learning rates and final weights against PyTorch's, from rows in a file.</summary>
public sealed class TrajectoryFixtureTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    public static TheoryData<string> Cases()
    {
        TheoryData<string> cases = [];
        string root = Path.Combine(SharedFolder.Fixtures, "trajectory");
        if (Directory.Exists(root))
            foreach (string folder in Directory.GetDirectories(root).Order(StringComparer.Ordinal)) cases.Add(Path.GetFileName(folder));
        if (cases.Count == 0) cases.Add("");
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_run_equals_the_reference_step_by_step(string name)
    {
        string folder = SharedFolder.FixtureOrSkip("trajectory", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no trajectory");
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        JsonElement root = inputs.RootElement;
        string model = Path.Combine(folder, root.GetProperty("model").GetString()!), output = Path.Combine(_folder, "out");
        FixtureTask task = FixtureTask.Read(root);
        JsonElement h = root.GetProperty("hyperparameters");
        EmbedderTrainer.Run(model, task.Options with { TrainData = [WriteRows(root, task.Options.TrainGroupSize)], Pooling = task.Pooling, QueryMaxLength = 512, PassageMaxLength = 512 },
            new TrainingOptions
            {
                OutputDirectory = output,
                BatchSize = root.GetProperty("micro_batches")[0].GetProperty("queries").GetArrayLength(),
                GradientAccumulationSteps = h.GetProperty("accumulate").GetInt32(),
                MaxSteps = h.GetProperty("steps").GetInt32(),
                LearningRate = h.GetProperty("learning_rate").GetDouble(),
                WarmupRatio = h.GetProperty("warmup_ratio").GetDouble(),
                WeightDecay = h.GetProperty("weight_decay").GetDouble(),
                MaxGradNorm = h.GetProperty("max_grad_norm").GetDouble(),
                Shuffle = false,
                LoggingSteps = 1,
            });
        IReadOnlyList<TrainLogRow> rows = TrainLog.Rows(Path.Combine(output, "train_log.csv"));
        JsonElement[] steps = [.. expected.RootElement.GetProperty("steps").EnumerateArray()];
        Assert.Equal(steps.Length, rows.Count);
        foreach ((JsonElement step, TrainLogRow row) in steps.Zip(rows))
        {
            AssertRelative(step.GetProperty("loss").GetDouble(), row.Loss, 1e-4, $"loss of step {row.Step}");
            AssertRelative(step.GetProperty("grad_norm").GetDouble(), row.GradNorm, 1e-4, $"gradient norm of step {row.Step}");
            Assert.Equal(step.GetProperty("lr").GetDouble(), row.LearningRate, 1e-9);
        }
        AssertWeights(new(Path.Combine(model, "model.safetensors")), new(Path.Combine(folder, "final.safetensors")), new(Path.Combine(output, "model.safetensors")));
    }

    /// <summary>The rows in the order in which the schedule takes them, tokens already made.</summary>
    private string WriteRows(JsonElement inputs, int groupSize)
    {
        JsonElement batches = inputs.GetProperty("micro_batches");
        List<string> lines = [];
        foreach (int index in inputs.GetProperty("schedule").EnumerateArray().SelectMany(step => step.EnumerateArray()).Select(index => index.GetInt32()))
        {
            string[] queries = [.. batches[index].GetProperty("queries").EnumerateArray().Select(Tokens)];
            string[] passages = [.. batches[index].GetProperty("passages").EnumerateArray().Select(Tokens)];
            lines.AddRange(queries.Select((query, i) =>
                $"{{\"query\":{query},\"pos\":[{passages[i * groupSize]}],\"neg\":[{string.Join(',', passages[(i * groupSize + 1)..((i + 1) * groupSize)])}]}}"));
        }
        string path = Path.Combine(_folder, "rows.jsonl");
        File.WriteAllLines(path, lines);
        return path;
    }

    private static string Tokens(JsonElement ids) => $"{{\"input_ids\":{ids.GetRawText()}}}";

    private static void AssertRelative(double expected, double actual, double tolerance, string what) =>
        Assert.True(Math.Abs(actual - expected) <= tolerance * Math.Max(Math.Abs(expected), 1e-6), $"{what}: {actual:g9}, expected {expected:g9}");

    private static void AssertWeights(SafetensorsReference initial, SafetensorsReference expected, SafetensorsReference actual)
    {
        double totalDifference = 0, totalMove = 0;
        foreach (string name in expected.Names.Where(name => !name.EndsWith(".attention.self.key.bias", StringComparison.Ordinal)))
        {
            float[] start = initial[name], end = expected[name], found = actual[name];
            double difference = 0, move = 0;
            for (int i = 0; i < end.Length; i++)
            {
                difference += Math.Pow((double)found[i] - end[i], 2);
                move += Math.Pow((double)end[i] - start[i], 2);
            }
            if (move == 0) Assert.Equal(start, found);
            else Assert.True(Math.Sqrt(difference / move) <= 5e-3, $"{name}: {Math.Sqrt(difference / move):g3} of its move");
            totalDifference += difference;
            totalMove += move;
        }
        Assert.True(Math.Sqrt(totalDifference / totalMove) <= 1e-3, $"all weights: {Math.Sqrt(totalDifference / totalMove):g3} of their move");
    }
}
