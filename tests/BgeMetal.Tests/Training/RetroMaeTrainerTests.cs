using System.Globalization;
using BgeMetal.Checkpoints;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Cli;
using BgeMetal.Training;
using TinyModel = BgeMetal.Tests.Models.TinyModel;

namespace BgeMetal.Tests.Training;

/// <summary>The public trainer and the command, on a small model.</summary>
public sealed class RetroMaeTrainerTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly string[] s_lines = ["the quick brown fox sat on the mat", "one two three and over the hills", "the cat sat on the river", "猫在 the hills", "fox"];

    [Fact]
    public void Pre_training_lowers_the_loss_and_its_result_embeds_and_has_a_masked_language_head()
    {
        string output = Path.Combine(model.Root, "out");
        List<string> notes = [];
        List<double> losses = [];
        TrainingSummary summary = RetroMaeTrainer.Run(model.Directory, new PretrainOptions { TrainData = [Data()] },
            new TrainingOptions { OutputDirectory = output, MaxSteps = 60, BatchSize = 5, LearningRate = 3e-3, LoggingSteps = 20 }, step => losses.Add(step.Loss), notes.Add);
        Assert.Equal(60, summary.Steps);
        Assert.True(losses[^10..].Average() < 0.8 * losses[..10].Average(), $"{losses[..10].Average()} to {losses[^10..].Average()}");
        Assert.Contains(notes, note => note.Contains("no whole masked-LM head", StringComparison.Ordinal));
        Assert.Contains(notes, note => note.Contains("decoder starts fresh", StringComparison.Ordinal));

        string saved = Path.Combine(output, RetroMaeTrainer.ModelFolder);
        SafetensorsReference weights = new(Path.Combine(saved, "model.safetensors"));
        Assert.Contains("bert.embeddings.word_embeddings.weight", weights.Names);
        Assert.Contains("cls.predictions.transform.dense.weight", weights.Names);
        Assert.Contains("cls.predictions.bias", weights.Names);
        Assert.All(weights.Names, name => Assert.True(name.StartsWith("bert.e", StringComparison.Ordinal) || name.StartsWith("cls.predictions.", StringComparison.Ordinal), name));
        Assert.Equal("BertForMaskedLM", Assert.Single(ModelConfig.Load(saved).Architectures));
        using Embedder embedder = Embedder.Load(saved);
        Assert.Equal(PoolingMode.Cls, embedder.Pooling);
        Assert.Equal(1, embedder.EmbedPassages(["the cat"])[0].Sum(x => (double)x * x), 1e-5);
    }

    [Fact]
    public void A_resumed_run_ends_in_the_same_bits_and_a_second_run_goes_on_with_head_and_decoder()
    {
        string output = Path.Combine(model.Root, "resumable"), saved = Path.Combine(output, RetroMaeTrainer.ModelFolder);
        TrainingOptions options = new() { OutputDirectory = output, MaxSteps = 6, BatchSize = 2, SaveSteps = 3, LoggingSteps = 1 };
        PretrainOptions task = new() { TrainData = [Data()] };
        RetroMaeTrainer.Run(model.Directory, task, options);
        byte[] weights = File.ReadAllBytes(Path.Combine(saved, "model.safetensors")), decoder = File.ReadAllBytes(Path.Combine(saved, RetroMaeModel.DecoderFile));
        RetroMaeTrainer.Run(model.Directory, task, options with { ResumeFrom = Path.Combine(output, "checkpoint-3") });
        Assert.Equal(weights, File.ReadAllBytes(Path.Combine(saved, "model.safetensors")));
        Assert.Equal(decoder, File.ReadAllBytes(Path.Combine(saved, RetroMaeModel.DecoderFile)));

        List<string> notes = [];
        RetroMaeModel.Load(saved, new ComputeOptions(), 1, notes.Add).Dispose();
        Assert.Equal([$"the decoder goes on from {RetroMaeModel.DecoderFile}"], notes);
    }

    [Fact]
    public void The_number_of_threads_does_not_show()
    {
        byte[][] weights = [.. new[] { 1, 3 }.Select(threads =>
        {
            string output = Path.Combine(model.Root, $"threads-{threads}");
            RetroMaeTrainer.Run(model.Directory, new PretrainOptions { TrainData = [Data()] },
                new TrainingOptions { OutputDirectory = output, MaxSteps = 3, BatchSize = 4, Compute = new ComputeOptions { Threads = threads } });
            return File.ReadAllBytes(Path.Combine(output, RetroMaeTrainer.ModelFolder, "model.safetensors"));
        })];
        Assert.Equal(weights[0], weights[1]);
    }

    [Fact]
    public void Retrieval_is_measured_while_it_pre_trains_and_the_best_model_is_kept()
    {
        string output = Path.Combine(model.Root, "watched"), blind = Path.Combine(model.Root, "blind"), data = RetrievalFolder.Write(Path.Combine(model.Root, "beir"));
        CliRun.Succeeds("pretrain", "--model", model.Directory, "--train-data", Data(), "--output-dir", output, "--max-steps", "5", "--eval-data", data, "--eval-steps", "2");
        string[][] lines = [.. File.ReadAllLines(Path.Combine(output, "eval_log.csv")).Skip(1).Select(line => line.Split(','))];
        Assert.Equal(["0", "2", "4", "5"], lines.Select(line => line[0]));
        double[] measured = [.. lines.Select(line => double.Parse(line[5], CultureInfo.InvariantCulture))];
        Assert.Equal(measured.Max(), RetrievalFolder.Measure(Path.Combine(output, "best_model"), data), 1e-6);
        Assert.Equal(measured[^1], RetrievalFolder.Measure(Path.Combine(output, RetroMaeTrainer.ModelFolder), data), 1e-6);
        Assert.True(File.Exists(Path.Combine(output, "best_model", RetroMaeModel.DecoderFile)));
        RetroMaeTrainer.Run(model.Directory, new PretrainOptions { TrainData = [Data()] }, new TrainingOptions { OutputDirectory = blind, MaxSteps = 5 });
        Assert.Equal(File.ReadAllBytes(Path.Combine(blind, RetroMaeTrainer.ModelFolder, "model.safetensors")), File.ReadAllBytes(Path.Combine(output, RetroMaeTrainer.ModelFolder, "model.safetensors")));
    }

    [Fact]
    public void A_head_of_another_shape_is_refused_by_name()
    {
        string damaged = Path.Combine(model.Root, "damaged");
        using (Checkpoint source = Checkpoint.Open(model.Directory))
        {
            List<NamedTensor> tensors = [new(MaskedLanguageHeadNames.Bert.Bias, [3], new float[3])];
            foreach (TensorEntry entry in source.Tensors.Entries)
            {
                float[] values = new float[entry.Elements];
                source.Tensors.ReadFloats(entry.Name, values);
                tensors.Add(new NamedTensor(entry.Name, entry.Shape, values));
            }
            CheckpointWriter.Save(damaged, source.Config, tensors, null, false, 16, [Path.Combine(model.Directory, "vocab.txt")]);
        }
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => RetroMaeModel.Load(damaged, new ComputeOptions(), 1, null));
        Assert.Contains(MaskedLanguageHeadNames.Bert.Bias, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--encoder-mlm-probability", "1.5")]
    [InlineData("--decoder-mlm-probability", "-0.1")]
    [InlineData("--max-seq-length", "2")]
    [InlineData("--objective", "mae")]
    [InlineData("--bow-loss-weight", "-1")]
    public void An_option_out_of_range_is_named(string option, string value) =>
        Assert.Contains(option, CliRun.Of("pretrain", "--model", model.Directory, "--train-data", Data(), "--output-dir", Path.Combine(model.Root, "never"), option, value).Error, StringComparison.Ordinal);

    [Fact]
    public void A_bad_row_is_named_with_its_line()
    {
        string data = Path.Combine(model.Root, "bad.jsonl");
        File.WriteAllText(data, "{\"text\": \"the cat\"}\n{\"text\": 5}\n");
        CliRun.Fails(1, ["bad.jsonl:2"], "pretrain", "--model", model.Directory, "--train-data", data, "--output-dir", Path.Combine(model.Root, "bad-out"), "--max-steps", "1");
    }

    private string Data()
    {
        string path = Path.Combine(model.Root, "texts.jsonl");
        File.WriteAllLines(path, s_lines.Select(line => $"{{\"text\":\"{line}\"}}"));
        return path;
    }
}
