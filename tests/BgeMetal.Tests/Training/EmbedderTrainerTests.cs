using BgeMetal.Checkpoints;
using BgeMetal.Retrieval;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>Fine-tuning from data files to a saved model.</summary>
public sealed class EmbedderTrainerTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    [Theory]
    [InlineData(PoolingMode.Cls)]
    [InlineData(PoolingMode.Mean)]
    public void The_saved_model_embeds_as_it_was_trained(PoolingMode pooling)
    {
        string output = $"saved-{pooling}";
        TrainingSummary summary = folder.Train(folder.Options(output) with { MaxSteps = 40 }, folder.Task with { Pooling = pooling });
        using Embedder embedder = Embedder.Load(folder.Out(output));
        Assert.Equal((pooling, true, "find: ", 128), (embedder.Pooling, embedder.Normalize, embedder.QueryInstruction, embedder.MaxLength));
        Assert.Equal(TrainingFolder.Tensors(folder.Model).Keys.Order(), TrainingFolder.Tensors(folder.Out(output)).Keys.Order());
        IReadOnlyList<TrainLogRow> log = TrainLog.Rows(Path.Combine(folder.Out(output), "train_log.csv"));
        Assert.True(log[^1].Loss < log[0].Loss, $"the loss went from {log[0].Loss} to {log[^1].Loss}");
        Assert.Equal((40L, log[^1].Tokens), (summary.Steps, summary.Tokens));
    }

    [Fact]
    public void A_fixed_position_table_keeps_its_bits_and_all_else_moves()
    {
        folder.Train(folder.Options("fixed"), folder.Task with { FixPositionEmbedding = true });
        Dictionary<string, float[]> before = TrainingFolder.Tensors(folder.Model), after = TrainingFolder.Tensors(folder.Out("fixed"));
        Assert.Equal(before["embeddings.position_embeddings.weight"], after["embeddings.position_embeddings.weight"]);
        Assert.NotEqual(before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"]);
        folder.Train(folder.Options("moving"));
        Assert.NotEqual(before["embeddings.position_embeddings.weight"], TrainingFolder.Tensors(folder.Out("moving"))["embeddings.position_embeddings.weight"]);
    }

    [Theory]
    [InlineData("{\"query\":\"a\",\"pos\":[],\"neg\":[\"b\"]}", "pos")]
    [InlineData("{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[]}", "neg")]
    [InlineData("{\"query\":7,\"pos\":[\"b\"],\"neg\":[\"c\"]}", "query")]
    [InlineData("{\"pos\":[\"b\"],\"neg\":[\"c\"]}", "query")]
    [InlineData("{\"query\":\"a\",\"pos\":\"b\",\"neg\":[\"c\"]}", "pos")]
    [InlineData("{\"query\":{\"input_ids\":[2,99999,3]},\"pos\":[\"b\"],\"neg\":[\"c\"]}", "99999")]
    [InlineData("{\"query\":", "rows-bad")]
    public void A_bad_row_ends_the_run_with_its_line_or_is_skipped(string row, string word)
    {
        string rows = folder.Out($"rows-bad-{Math.Abs(row.GetHashCode(StringComparison.Ordinal))}.jsonl");
        File.WriteAllLines(rows, [.. File.ReadLines(folder.Rows).Take(4), row, .. File.ReadLines(folder.Rows).Skip(4)]);
        string output = Path.GetFileName(rows) + "-out";
        string message = Assert.Throws<BgeMetalException>(() => folder.Train(folder.Options(output), folder.Task with { TrainData = [rows] })).Message;
        Assert.Contains(word, message, StringComparison.Ordinal);
        Assert.Contains(":5)", message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(folder.Out(output), "config.json")));
        folder.Train(folder.Options(output) with { MaxSteps = 1 }, folder.Task with { TrainData = [rows], SkipInvalid = true });
        Assert.True(File.Exists(Path.Combine(folder.Out(output), "config.json")));
    }

    [Fact]
    public void Options_out_of_range_are_named()
    {
        Fails("--temperature", options => options, task => task with { Temperature = 0 });
        Fails("--temperature", options => options, task => task with { Temperature = 0.6 });
        Fails("--train-group-size", options => options, task => task with { TrainGroupSize = 0 });
        Fails("--mrl-dims", options => options, task => task with { MatryoshkaDimensions = [49] });
        Fails("--kd-loss-type", options => options, task => task with { KnowledgeDistillation = true, DistillationLoss = DistillationLoss.M3Kd, InBatchNegatives = false });
        Fails("--per-device-train-batch-size", options => options with { BatchSize = 0 });
        Fails("--num-train-epochs", options => options with { MaxSteps = 0, Epochs = double.NaN });
        Fails("--learning-rate", options => options with { LearningRate = double.NaN });
        Fails("no training data", options => options with { BatchSize = 25, DropLast = true });
        Fails("cannot resume", options => options with { ResumeFrom = "latest" });
    }

    [Fact]
    public void A_directory_that_holds_something_is_not_overwritten_unasked()
    {
        folder.Train(folder.Options("twice") with { MaxSteps = 1 });
        Assert.Contains("not empty", Assert.Throws<BgeMetalException>(() => folder.Train(folder.Options("twice"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_loss_that_is_not_finite_ends_the_run_with_step_layer_and_rows()
    {
        string message = Assert.Throws<BgeMetalException>(() =>
            folder.Train(folder.Options("diverged") with { LearningRate = 1e38, WarmupRatio = 0, MaxGradNorm = 0, WeightDecay = 0 })).Message;
        Assert.Contains("training stopped at step", message, StringComparison.Ordinal);
        Assert.Contains("the first layer whose result is not finite is e", message, StringComparison.Ordinal);
        Assert.Contains("rows.jsonl:", message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(folder.Out("diverged"), "model.safetensors")));
    }

    private void Fails(string word, Func<TrainingOptions, TrainingOptions> options, Func<FinetuneOptions, FinetuneOptions>? task = null)
    {
        TrainingOptions changed = options(folder.Options($"refused-{Guid.NewGuid():n}"));
        string message = Assert.Throws<BgeMetalException>(() => folder.Train(changed, (task ?? (same => same))(folder.Task))).Message;
        Assert.Contains(word, message, StringComparison.Ordinal);
    }
}
