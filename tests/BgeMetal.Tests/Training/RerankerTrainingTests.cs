using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;
using BgeMetal.Tests.Text;
using BgeMetal.Text;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>The cross-encoder's training: every fixture case against PyTorch, the cutting of pairs, and a model that comes out and ranks.</summary>
public sealed class RerankerTrainingTests : IDisposable
{
    private readonly TinyModel _model = new();

    public void Dispose() => _model.Dispose();

    public static TheoryData<string, bool> Cases()
    {
        TheoryData<string, bool> cases = [];
        string root = Path.Combine(SharedFolder.Fixtures, "reranker");
        if (Directory.Exists(root))
            foreach (string folder in Directory.GetDirectories(root).Order(StringComparer.Ordinal))
                foreach (bool distill in new[] { false, true }) cases.Add(Path.GetFileName(folder), distill);
        if (cases.Count == 0) cases.Add("", false);
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Loss_and_gradients_equal_the_reference(string name, bool distill)
    {
        string folder = SharedFolder.FixtureOrSkip("reranker", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no reranker case");
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        SafetensorsReference gradients = new(Path.Combine(folder, "expected.safetensors"));
        using TrainableModel model = RerankerTrainer.Load(folder, new ComputeOptions(), seed: 1);
        using RerankingObjective objective = new(model);
        double loss = objective.Backpropagate(Batch(inputs.RootElement, distill), 1, seed: 1);
        Assert.Equal(expected.RootElement.GetProperty(distill ? "loss_kd" : "loss_ce").GetDouble(), loss, 1e-4);
        GradientComparison.AssertClose(gradients, distill ? "kd.grad." : "ce.grad.", model.Parameters, RerankerTrainer.Layout(model.Config).NameOf);
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(7, true)]
    [InlineData(8, true)]
    [InlineData(1000, false)]
    public void A_batch_taken_in_parts_has_the_loss_and_gradient_of_the_whole_with_the_same_dropout(int subBatchSize, bool distill)
    {
        (double loss, float[] gradient, long peak) = Gradient(0, distill);
        (double partLoss, float[] partGradient, long partPeak) = Gradient(subBatchSize, distill);
        Assert.Equal(loss, partLoss, 1e-6);
        double norm = Math.Sqrt(gradient.Sum(value => (double)value * value)), difference = Math.Sqrt(gradient.Zip(partGradient, (a, b) => Math.Pow((double)a - b, 2)).Sum());
        Assert.True(norm > 1e-3 && difference <= 2e-6 * norm, $"{difference} of {norm}");
        if (subBatchSize < 20) Assert.True(partPeak < 0.75 * peak, $"{partPeak} bytes in parts, {peak} at once");
        else Assert.Equal(gradient, partGradient);
        Assert.NotEqual(loss, Gradient(0, distill, seed: 2).Loss);        // dropout is on
    }

    [Fact]
    public unsafe void The_first_layer_that_is_not_finite_is_named()
    {
        using TrainableModel model = RerankerTrainer.Load(_model.Directory, new ComputeOptions(), seed: 1);
        using RerankingObjective objective = new(model, 4);
        RerankingBatch batch = RandomBatch(distill: false);
        Assert.Null(objective.FirstNotFinite(batch, 1));
        model.Parameters.All.Single(entry => entry.Spec.Name == "encoder.layer.1.intermediate.dense.weight").Master.Floats[3] = float.NaN;
        model.Parameters.Repack(model.Device.Team);
        Assert.False(double.IsFinite(objective.Backpropagate(batch, 1, 1)));
        Assert.Equal("encoder.layer.1.intermediate", objective.FirstNotFinite(batch, 1));
    }

    [Fact]
    public void An_encoder_becomes_a_reranker_that_ranks_what_it_was_taught()
    {
        string data = WriteRows(), output = Path.Combine(_model.Root, "out");
        List<double> losses = [];
        RerankerTrainer.Run(_model.Directory, Task(data), Options(output), step => losses.Add(step.Loss), TestContext.Current.CancellationToken);
        Assert.True(losses[^10..].Average() < 0.5 * losses[..10].Average(), $"{losses[..10].Average()} -> {losses[^10..].Average()}");
        ModelConfig config = ModelConfig.Load(output);
        Assert.Equal((1, "BertForSequenceClassification"), (config.NumLabels, config.Architectures[0]));
        using SafetensorsFile saved = SafetensorsFile.Open(Path.Combine(output, "model.safetensors"));
        Assert.True(saved.TryGet("bert.pooler.dense.weight", out _) && saved.TryGet("classifier.weight", out _) && saved.TryGet("bert.embeddings.word_embeddings.weight", out _));
        using Reranker reranker = Reranker.Load(output);
        float[] scores = reranker.Score("the cat", ["the cat sat on the mat", "the quick brown fox"]);
        Assert.True(scores[0] > scores[1], $"{scores[0]} {scores[1]}");
        Assert.False(Directory.Exists(Path.Combine(output, "1_Pooling")));
    }

    [Fact]
    public void A_resumed_run_gives_the_same_model_bit_for_bit()
    {
        string data = WriteRows(), whole = Path.Combine(_model.Root, "whole"), parts = Path.Combine(_model.Root, "parts");
        TrainingOptions options = Options(whole) with { MaxSteps = 6 };
        RerankerTrainer.Run(_model.Directory, Task(data), options, cancellationToken: TestContext.Current.CancellationToken);
        using CancellationTokenSource stop = new();
        Assert.ThrowsAny<OperationCanceledException>(() => RerankerTrainer.Run(_model.Directory, Task(data), options with { OutputDirectory = parts, SaveSteps = 3 },
            step => { if (step.Step == 4) stop.Cancel(); }, stop.Token));
        RerankerTrainer.Run(_model.Directory, Task(data), options with { OutputDirectory = parts, ResumeFrom = "latest" }, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(whole, "model.safetensors")), File.ReadAllBytes(Path.Combine(parts, "model.safetensors")));
    }

    [Fact]
    public void A_run_does_not_go_on_with_other_options_that_decide_the_weights()
    {
        string data = WriteRows(), output = Path.Combine(_model.Root, "changed");
        TrainingOptions options = Options(output) with { MaxSteps = 6, SaveSteps = 3 };
        RerankerTrainer.Run(_model.Directory, Task(data), options, cancellationToken: TestContext.Current.CancellationToken);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => RerankerTrainer.Run(_model.Directory, Task(data), options with { ResumeFrom = "latest", WeightDecay = 0.5 },
            cancellationToken: TestContext.Current.CancellationToken));
        Assert.Contains("cannot resume", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Distillation_without_scores_names_the_line()
    {
        string data = WriteRows();
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => RerankerTrainer.Run(_model.Directory, Task(data) with { KnowledgeDistillation = true },
            Options(Path.Combine(_model.Root, "out")), cancellationToken: TestContext.Current.CancellationToken));
        Assert.Equal((data, 1), (error.File, error.Line));
    }

    [Theory]
    [InlineData(4, 6, 5, 5, 4)]            // 5 = 4 + 6 / 4 of the query's 9; 10 - 3 special tokens - 5 leave 2 of the passage
    [InlineData(2, 12, 5, 4, 12)]
    public void Pairs_with_two_limits_are_cut_as_the_reference_does(int queryLength, int passageLength, int expectedQuery, int queryWords, int passageWords)
    {
        ModelTokenizer tokenizer = ModelTokenizer.Load(_model.Directory);
        PairJoiner joiner = new(tokenizer, isXlmRoberta: false, hasTypes: true, maxLength: 512, queryLength, passageLength);
        TokenSequence pair = joiner.Join(string.Join(' ', Enumerable.Repeat("cat", queryWords + 4)), string.Join(' ', Enumerable.Repeat("fox", passageWords + 20)));
        int query = Math.Min(queryWords + 4, queryLength + passageLength / 4), passage = queryLength + passageLength - 3 - query;
        Assert.Equal(expectedQuery, query);
        int cat = tokenizer.TokenToId("cat"), fox = tokenizer.TokenToId("fox");
        Assert.Equal([tokenizer.ClsId, .. Enumerable.Repeat(cat, query), tokenizer.SepId, .. Enumerable.Repeat(fox, passage), tokenizer.SepId], pair.Ids.ToArray());
        Assert.Equal([.. Enumerable.Repeat(0, query + 2), .. Enumerable.Repeat(1, passage + 1)], pair.TypeIds!.Value.ToArray());
    }

    [Fact]
    public void Pairs_that_are_short_enough_are_joined_the_same_way_under_either_limit()
    {
        ModelTokenizer tokenizer = ModelTokenizer.Load(_model.Directory);
        TokenSequence one = new PairJoiner(tokenizer, false, true, 512, null, null).Join("the cat", "sat on the mat");
        TokenSequence two = new PairJoiner(tokenizer, false, true, 512, 32, 128).Join("the cat", "sat on the mat");
        Assert.Equal(one.Ids.ToArray(), two.Ids.ToArray());
        Assert.Equal(one.TypeIds!.Value.ToArray(), two.TypeIds!.Value.ToArray());
    }

    [Fact]
    public void Pairs_of_xlm_roberta_have_two_separators_and_one_type()
    {
        ModelTokenizer tokenizer = SharedTokenizers.LoadOrSkip("xlm-roberta");
        TokenSequence one = new PairJoiner(tokenizer, true, false, 512, null, null).Join("the cat", "sat on the mat"), two = new PairJoiner(tokenizer, true, false, 512, 32, 128).Join("the cat", "sat on the mat");
        Assert.Equal(one.Ids.ToArray(), two.Ids.ToArray());
        Assert.Equal(4, two.Ids.ToArray().Count(id => id == tokenizer.ClsId || id == tokenizer.SepId));
        Assert.Null(two.TypeIds);
        TokenSequence cut = new PairJoiner(tokenizer, true, false, 12, 32, 128).Join("the cat", string.Join(' ', Enumerable.Repeat("mat", 200)));
        Assert.Equal(12, cut.Length);
        Assert.Equal(one.Ids.ToArray()[..5], cut.Ids.ToArray()[..5]);
    }

    private unsafe (double Loss, float[] Gradient, long PeakBytes) Gradient(int subBatchSize, bool distill, ulong seed = 1)
    {
        using TrainableModel model = RerankerTrainer.Load(_model.Directory, new ComputeOptions(), seed: 1);
        using RerankingObjective objective = new(model, subBatchSize);
        double loss = objective.Backpropagate(RandomBatch(distill), 1, seed);
        return (loss, new Span<float>(model.Parameters.Grad, checked((int)model.Parameters.Count)).ToArray(), objective.PeakBytes);
    }

    /// <summary>Five groups of four ragged pairs.</summary>
    private static RerankingBatch RandomBatch(bool distill)
    {
        Random random = new(11);
        return new RerankingBatch
        {
            Pairs = [.. Enumerable.Range(0, 20).Select(_ => new TokenSequence(Enumerable.Range(0, random.Next(3, 40)).Select(_ => random.Next(5, 60)).ToArray()))],
            GroupSize = 4,
            TeacherScores = distill ? [.. Enumerable.Range(0, 20).Select(_ => random.NextSingle())] : null,
            Places = [new RowPlace("made up", 1)],
        };
    }

    private static RerankingBatch Batch(JsonElement inputs, bool distill)
    {
        int[][] ids = Lists(inputs.GetProperty("pairs"));
        int[][]? types = inputs.GetProperty("token_type_ids") is { ValueKind: JsonValueKind.Array } given ? Lists(given) : null;
        return new RerankingBatch
        {
            Pairs = [.. ids.Select((pair, i) => types is null ? new TokenSequence(pair) : new TokenSequence(pair, types[i]))],
            GroupSize = inputs.GetProperty("group_size").GetInt32(),
            TeacherScores = distill ? [.. inputs.GetProperty("teacher_scores").EnumerateArray().Select(score => score.GetSingle())] : null,
            Places = [new RowPlace("fixture", 1)],
        };
    }

    private static int[][] Lists(JsonElement rows) => [.. rows.EnumerateArray().Select(row => row.EnumerateArray().Select(id => id.GetInt32()).ToArray())];

    private string WriteRows()
    {
        string path = Path.Combine(_model.Root, "rows.jsonl");
        (string Query, string Passage)[] pairs = [("the cat", "the cat sat on the mat"), ("fox", "the quick brown fox"), ("river", "over the river and hills"), ("one", "one two three")];
        File.WriteAllLines(path, Enumerable.Range(0, 16).Select(i => JsonSerializer.Serialize(new
        {
            query = pairs[i % 4].Query,
            pos = new[] { pairs[i % 4].Passage },
            neg = pairs.Where((_, j) => j != i % 4).Select(pair => pair.Passage),
        })));
        return path;
    }

    private static RerankerTrainingOptions Task(string data) => new() { TrainData = [data], TrainGroupSize = 4, MaxLength = 32 };

    private static TrainingOptions Options(string output) => new() { OutputDirectory = output, LearningRate = 4e-3, BatchSize = 4, MaxSteps = 120, LoggingSteps = 10 };
}
