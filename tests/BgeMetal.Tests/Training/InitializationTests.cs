using System.Text.Json;
using BgeMetal.Testing;
using BgeMetal.Text;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>What fresh weights are, and what the choice of their initialisation is for.</summary>
public sealed class InitializationTests : IDisposable
{
    private const int Width = 64, Heads = 2, Layers = 2;

    private static readonly string[] Words = [.. Enumerable.Range(0, 200).Select(i => $"{(char)('a' + (i / 26))}{(char)('a' + (i % 26))}")];

    private readonly string _root = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Mimetic_keys_begin_equal_to_their_own_layers_queries()
    {
        Dictionary<string, float[]> weights = TrainingFolder.Tensors(Fresh(Initialization.Mimetic));
        string[] queries = [.. weights.Keys.Where(name => name.EndsWith("self.query.weight", StringComparison.Ordinal))];
        Assert.Equal(Layers, queries.Length);
        foreach (string query in queries)
        {
            string key = query.Replace("query", "key", StringComparison.Ordinal);
            Assert.Equal(weights[query], weights[key]);
            Assert.Equal([key, query], weights.Where(entry => entry.Value.AsSpan().SequenceEqual(weights[query])).Select(entry => entry.Key).Order(StringComparer.Ordinal));
        }
    }

    [Fact]
    public void With_berts_no_two_matrices_are_equal_and_all_have_its_deviation()
    {
        List<KeyValuePair<string, float[]>> matrices = [.. TrainingFolder.Tensors(Fresh(Initialization.Bert)).Where(entry => entry.Value.Length >= Width * Width)];
        Assert.Equal(matrices.Count, matrices.Select(entry => entry.Value[0]).Distinct().Count());
        Assert.All(matrices, entry => Assert.Equal(0.02, Deviation(entry.Value), 0.0015));
    }

    [Fact]
    public void A_mimetic_head_scores_a_normalised_vector_about_four_with_itself_and_zero_with_others()
    {
        foreach ((string name, float[] weight) in TrainingFolder.Tensors(Fresh(Initialization.Mimetic)).Where(entry => entry.Key.EndsWith("self.query.weight", StringComparison.Ordinal)))
            for (int head = 0; head < Heads; head++)
            {
                List<double> own = [], others = [];
                for (int i = 0; i < 50; i++)
                {
                    double[] x = Projection(weight, head, NormalisedVector(2 * i)), y = Projection(weight, head, NormalisedVector((2 * i) + 1));
                    own.Add(Dot(x, x) / Math.Sqrt(Width / Heads));
                    others.Add(Dot(x, y) / Math.Sqrt(Width / Heads));
                }
                Assert.True(own.Average() is > 3.2 and < 4.8 && Math.Abs(others.Average()) < 0.5, $"{name}, head {head}: {own.Average()}, {others.Average()}");
            }
    }

    [Fact]
    public void A_fresh_reranker_learns_to_compare_only_if_attention_begins_by_comparing()
    {
        double mimetic = LossAfterTraining(Fresh(Initialization.Mimetic)), bert = LossAfterTraining(Fresh(Initialization.Bert));
        Assert.True(mimetic < 0.5 && bert > 1, $"mimetic {mimetic}, bert {bert}; chance is {Math.Log(4)}");
    }

    // Which of four passages of random words holds the query's words: nothing but a comparison tells.
    private double LossAfterTraining(string model)
    {
        Random random = new(5);
        string rows = Path.Combine(_root, "rows.jsonl"), output = Path.Combine(_root, "reranker");
        File.WriteAllLines(rows, Enumerable.Range(0, 1600).Select(_ =>
        {
            string[][] passages = [.. Enumerable.Range(0, 4).Select(_ => Sample(8))];
            return JsonSerializer.Serialize(new { query = string.Join(' ', passages[0][..4]), pos = Texts(passages[..1]), neg = Texts(passages[1..]) });
        }));
        List<double> losses = [];
        RerankerTrainer.Run(model, new RerankerTrainingOptions { TrainData = [rows], TrainGroupSize = 4, MaxLength = 32 }, new TrainingOptions
        {
            OutputDirectory = output,
            OverwriteOutputDirectory = true,
            BatchSize = 16,
            MaxSteps = 100,
            LearningRate = 3e-3,
            WarmupRatio = 0.1,
        }, step => losses.Add(step.Loss), TestContext.Current.CancellationToken);
        return losses[^10..].Average();

        string[] Sample(int count) => [.. Words.OrderBy(_ => random.Next()).Take(count)];
        static string[] Texts(string[][] passages) => [.. passages.Select(words => string.Join(' ', words))];
    }

    private string Fresh(Initialization initialization)
    {
        string vocabulary = Path.Combine(_root, "vocabulary"), model = Path.Combine(_root, initialization.ToString());
        Directory.CreateDirectory(vocabulary);
        File.WriteAllLines(Path.Combine(vocabulary, "vocab.txt"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", .. Words]);
        ModelInitializer.Create(model, ModelTokenizer.Load(vocabulary),
            new FreshModelOptions { Layers = Layers, HiddenSize = Width, Heads = Heads, MaxPositions = 64, Initialization = initialization });
        return model;
    }

    private static double[] NormalisedVector(int seed)
    {
        float[] values = [.. new RandomData(seed).Uniform(Width).Select(value => (float)value)];
        double mean = values.Average(), deviation = Deviation(values);
        return [.. values.Select(value => (value - mean) / deviation)];
    }

    private static double[] Projection(float[] weight, int head, double[] x) =>
        [.. Enumerable.Range(head * Width / Heads, Width / Heads).Select(row => Enumerable.Range(0, Width).Sum(column => weight[(row * Width) + column] * x[column]))];

    private static double Dot(double[] x, double[] y) => x.Zip(y, (a, b) => a * b).Sum();

    private static double Deviation(float[] values)
    {
        double mean = values.Average();
        return Math.Sqrt(values.Average(value => (value - mean) * (value - mean)));
    }
}
