using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>Every contrastive case of the fixtures folder: loss and every parameter's gradient against PyTorch's, whole and by gradient caching.</summary>
public sealed class ContrastiveFixtureTests
{
    public static TheoryData<string, int> Cases()
    {
        TheoryData<string, int> cases = [];
        string root = Path.Combine(SharedFolder.Fixtures, "contrastive");
        if (Directory.Exists(root))
            foreach (string folder in Directory.GetDirectories(root).Where(folder => File.Exists(Path.Combine(folder, "inputs.json"))).Order(StringComparer.Ordinal))
                foreach (int chunk in new[] { 0, 3 }) cases.Add(Path.GetFileName(folder), chunk);
        if (cases.Count == 0) cases.Add("", 0);
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Loss_and_gradients_equal_the_reference(string name, int subBatchSize)
    {
        string folder = SharedFolder.FixtureOrSkip("contrastive", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no contrastive case");
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        SafetensorsReference gradients = new(Path.Combine(folder, "expected.safetensors"));
        FixtureTask task = FixtureTask.Read(inputs.RootElement);
        using TrainableModel model = TrainableModel.Load(Path.Combine(folder, inputs.RootElement.GetProperty("model").GetString()!), new ComputeOptions(), _ => [], new HashSet<string>());
        using ContrastiveObjective objective = new(model, task.Options with { SubBatchSize = subBatchSize }, task.Pooling);
        double loss = objective.Backpropagate(task.Batch(inputs.RootElement), 1, seed: 1);
        Assert.Equal(expected.RootElement.GetProperty("loss").GetDouble(), loss, 1e-4);
        GradientComparison.AssertClose(gradients, "grad.", model.Parameters);
        HashSet<string> trained = [.. model.Parameters.All.Select(parameter => parameter.Spec.Name)];
        Assert.All(expected.RootElement.GetProperty("parameters_without_gradient").EnumerateArray(), parameter => Assert.DoesNotContain(parameter.GetString()!, trained));
    }
}

/// <summary>The hyperparameters of a fixture as this project's options.</summary>
internal sealed record FixtureTask(FinetuneOptions Options, PoolingMode Pooling)
{
    public static FixtureTask Read(JsonElement inputs)
    {
        JsonElement h = inputs.GetProperty("hyperparameters");
        string? kd = Text(h, "kd_loss_type");
        return new FixtureTask(new FinetuneOptions
        {
            TrainData = [],
            TrainGroupSize = h.GetProperty("group_size").GetInt32(),
            Temperature = h.TryGetProperty("effective_temperature", out JsonElement effective) ? effective.GetDouble() : h.GetProperty("temperature").GetDouble(),
            Normalize = h.GetProperty("normalize").GetBoolean(),
            InBatchNegatives = h.GetProperty("in_batch_negatives").GetBoolean(),
            KnowledgeDistillation = kd is not null,
            DistillationLoss = kd == "m3_kd_loss" ? DistillationLoss.M3Kd : DistillationLoss.KlDiv,
            MatryoshkaDimensions = h.TryGetProperty("mrl_dims", out JsonElement dims) && dims.ValueKind == JsonValueKind.Array
                ? [.. dims.EnumerateArray().Select(d => d.GetInt32())] : [],
        }, h.GetProperty("pooling").GetString() == "mean" ? PoolingMode.Mean : PoolingMode.Cls);
    }

    public ContrastiveBatch Batch(JsonElement inputs)
    {
        TokenSequence[] queries = Sequences(inputs.GetProperty("queries")), passages = Sequences(inputs.GetProperty("passages"));
        return new ContrastiveBatch
        {
            Epoch = 0,
            Index = 0,
            Queries = queries,
            Passages = passages,
            GroupSize = Options.TrainGroupSize,
            TeacherScores = inputs.TryGetProperty("teacher_scores", out JsonElement scores) && scores.ValueKind == JsonValueKind.Array
                ? [.. scores.EnumerateArray().Select(score => score.GetSingle())] : null,
            NoInBatchNegatives = false,
            Rows = new int[queries.Length],
            Places = [.. queries.Select((_, i) => new RowPlace("fixture", i + 1))],
            Tokens = queries.Sum(text => text.Length) + passages.Sum(text => text.Length),
        };
    }

    private static TokenSequence[] Sequences(JsonElement rows) =>
        [.. rows.EnumerateArray().Select(row => new TokenSequence(row.EnumerateArray().Select(id => id.GetInt32()).ToArray()))];

    private static string? Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}

/// <summary>The tolerances of the fixtures' README for gradients: 1e-4 over all parameters, 5e-4 for each that carries at least 1e-4 of the norm.</summary>
internal static class GradientComparison
{
    private const string KeyBias = ".attention.self.key.bias";

    public static void AssertClose(SafetensorsReference expected, string prefix, TrainableParameters parameters) =>
        AssertClose(expected, name => prefix + name, parameters);

    public static void AssertClose(SafetensorsReference expected, string prefix, TrainableParameters parameters, Func<string, string?> nameOf) =>
        AssertClose(expected, name => prefix + nameOf(name), parameters);

    public static void AssertClose(SafetensorsReference expected, Func<string, string> referenceName, TrainableParameters parameters)
    {
        double totalDifference = 0, totalNorm = 0;
        List<(string Name, double Difference, double Norm)> tensors = [];
        foreach ((ParameterSpec spec, Tensor master) in parameters.All)
        {
            if (spec.Name.EndsWith(KeyBias, StringComparison.Ordinal)) continue;
            float[] reference = expected[referenceName(spec.Name)];
            Assert.Equal(spec.Count, reference.Length);
            float[] actual = new float[reference.Length];
            parameters.GradientOf(master).CopyTo(actual);
            double difference = 0, norm = 0;
            for (int i = 0; i < reference.Length; i++)
            {
                difference += Math.Pow((double)actual[i] - reference[i], 2);
                norm += (double)reference[i] * reference[i];
            }
            totalDifference += difference;
            totalNorm += norm;
            tensors.Add((spec.Name, Math.Sqrt(difference), Math.Sqrt(norm)));
        }
        double all = Math.Sqrt(totalNorm);
        Assert.True(Math.Sqrt(totalDifference) <= 1e-4 * all, $"all gradients: norm error {Math.Sqrt(totalDifference) / all:g3}");
        foreach ((string name, double difference, double norm) in tensors.Where(tensor => tensor.Norm >= 1e-4 * all))
            Assert.True(difference <= 5e-4 * norm, $"{name}: norm error {difference / norm:g3}");
    }
}
