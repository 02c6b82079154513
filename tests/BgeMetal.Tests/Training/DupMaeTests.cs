using System.Text.Json;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing.Reference;
using BgeMetal.Tests.Cli;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;
using TinyModel = BgeMetal.Tests.Models.TinyModel;

namespace BgeMetal.Tests.Training;

/// <summary>DupMAE: RetroMAE and a bag-of-words loss of the tokens' vectors.</summary>
public sealed class DupMaeTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const float Weight = 0.5f;
    private static readonly string[] s_texts = ["the quick brown fox sat on the mat and over the hills", "cat", "one two three and over the river", ""];

    [Fact]
    public void The_words_of_a_text_are_its_inner_tokens_as_a_set()
    {
        WordBag bag = WordBag.Of([new(new[] { 2, 9, 7, 9, 8, 3 }), new(new[] { 2, 3 }), new(new[] { 2, 1, 3 })]);
        Assert.Equal([7, 8, 9, 1], bag.Words);
        Assert.Equal([0, 3, 3, 4], bag.Offsets);
        Assert.Equal([0.25f, 0f, 1f], bag.Weights);
    }

    [Fact]
    public void The_loss_is_RetroMAEs_and_the_weighted_bag_of_words_of_the_oracle()
    {
        string folder = RetroMaeBatches.WithoutDropout(model);
        using TrainableModel trained = RetroMaeModel.Load(folder, new ComputeOptions { Threads = 2 }, 1, null);
        MaskedLanguageHeadNames names = RetroMaeModel.Names(trained.Config);
        RetroMaeBatch batch = RetroMaeBatches.Masked(trained, s_texts);
        using RetroMaeObjective retroMae = new(trained, names), dupMae = new(trained, names, Weight);
        double plain = retroMae.Backpropagate(batch, 1, 1), bagOfWords = 0;
        dupMae.Observer = pass =>
        {
            bagOfWords = pass.BagOfWordsLoss!.Value.RowSpan(0)[0];
            Assert.Equal(Oracle(trained, pass.Transformed!.Value, batch), bagOfWords, 1e-5);
        };
        double loss = dupMae.Backpropagate(batch, 1, 1);
        Assert.Equal(plain + (Weight * bagOfWords), loss, 1e-5);
    }

    [Fact]
    public void The_gradient_is_the_loss_function_s_slope()
    {
        using TrainableModel trained = RetroMaeModel.Load(RetroMaeBatches.WithoutDropout(model), new ComputeOptions { Threads = 2 }, 1, null);
        using RetroMaeObjective dupMae = new(trained, RetroMaeModel.Names(trained.Config), Weight);
        RetroMaeBatch batch = RetroMaeBatches.Masked(trained, s_texts);
        trained.Parameters.ZeroGradients();
        dupMae.Backpropagate(batch, 1, 1);
        (Tensor Master, float[] Gradient)[] gradients = [.. trained.Parameters.All.Select(entry => (entry.Master, RetroMaeBatches.Values(trained.Parameters.GradientOf(entry.Master))))];
        double squared = gradients.Sum(one => one.Gradient.Sum(g => (double)g * g)), step = 2e-3 / Math.Sqrt(squared);
        double slope = (LossAt(step) - LossAt(-2 * step)) / (2 * step);
        Assert.Equal(1, slope / squared, 0.01);

        // Moves by so many gradients from where the parameters are.
        double LossAt(double by)
        {
            foreach ((Tensor master, float[] gradient) in gradients)
                for (int i = 0; i < gradient.Length; i++) master.RowSpan(i / master.Columns)[i % master.Columns] += (float)(by * gradient[i]);
            trained.Parameters.Repack(trained.Device.Team);
            return dupMae.Backpropagate(batch, 1, 1);
        }
    }

    [Fact]
    public void The_trainer_learns_words_and_resumes_in_the_same_bits()
    {
        string data = Path.Combine(model.Root, "texts.jsonl"), output = Path.Combine(model.Root, "dupmae"), saved = Path.Combine(output, RetroMaeTrainer.ModelFolder, "model.safetensors");
        File.WriteAllLines(data, s_texts.Select(text => $"{{\"text\":\"{text}\"}}"));
        TrainingOptions options = new() { OutputDirectory = output, MaxSteps = 40, BatchSize = 4, LearningRate = 3e-3, SaveSteps = 20, LoggingSteps = 1 };
        PretrainOptions task = new() { TrainData = [data], Objective = PretrainObjective.DupMae, BagOfWordsWeight = 1 };
        RetroMaeTrainer.Run(model.Directory, task, options);
        IReadOnlyList<TrainLogRow> log = TrainLog.Rows(Path.Combine(output, "train_log.csv"));
        Assert.True(log[^1].Loss < 0.8 * log[0].Loss, $"from {log[0].Loss} to {log[^1].Loss}");
        byte[] weights = File.ReadAllBytes(saved);
        RetroMaeTrainer.Run(model.Directory, task, options with { ResumeFrom = Path.Combine(output, "checkpoint-20"), Compute = new ComputeOptions { Threads = 1 } });
        Assert.Equal(weights, File.ReadAllBytes(saved));
        TrainingOptions again = options with { ResumeFrom = Path.Combine(output, "checkpoint-20") };
        Assert.Throws<BgeMetalException>(() => RetroMaeTrainer.Run(model.Directory, task with { Objective = PretrainObjective.RetroMae }, again));
        Assert.Throws<BgeMetalException>(() => RetroMaeTrainer.Run(model.Directory, task with { BagOfWordsWeight = 0.3 }, again));
    }

    [Fact]
    public void The_command_takes_the_authors_spellings()
    {
        string data = Path.Combine(model.Root, "cli.jsonl"), output = Path.Combine(model.Root, "cli");
        File.WriteAllLines(data, s_texts.Select(text => $"{{\"text\":\"{text}\"}}"));
        CliRun.Succeeds("pretrain", "--model_name_or_path", model.Directory, "--train_data", data, "--output_dir", output, "--max_steps", "1", "--pretrain_method", "dupmae", "--bow_loss_weight", "0.2");
        using JsonDocument arguments = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(output, "training_args.json")));
        JsonElement task = arguments.RootElement.GetProperty("task");
        Assert.Equal(("DupMae", 0.2), (task.GetProperty("Objective").GetString(), task.GetProperty("BagOfWordsWeight").GetDouble()));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(Weight)]
    public void The_predicted_memory_is_near_what_a_step_takes(float weight)
    {
        using TrainableModel trained = RetroMaeModel.Load(model.Directory, new ComputeOptions { Threads = 2 }, 1, null);
        using RetroMaeObjective objective = new(trained, RetroMaeModel.Names(trained.Config), weight);
        RetroMaeBatch batch = RetroMaeBatches.Masked(trained, [.. Enumerable.Repeat(s_texts[0], 20)]);
        objective.Backpropagate(batch, 1, 1);
        TrainingMemory predicted = TrainingMemory.OfRetroMae(trained, [batch], bagOfWords: weight > 0);
        Assert.Equal(trained.Parameters.SizeBytes, predicted.ParameterBytes);
        Assert.InRange(predicted.ActivationBytes, objective.PeakBytes / 1.25, objective.PeakBytes * 1.25);
        Assert.Contains("--max-seq-length", Assert.Throws<BgeMetalException>(() => predicted.Require(1)).Message, StringComparison.Ordinal);
    }

    private static double Oracle(TrainableModel trained, Tensor transformed, RetroMaeBatch batch)
    {
        Dictionary<string, Tensor> masters = trained.Parameters.All.ToDictionary(entry => entry.Spec.Name, entry => entry.Master);
        double[] Doubles(Tensor tensor) => [.. RetroMaeBatches.Values(tensor).Select(value => (double)value)];
        WordBag bag = WordBag.Of(batch.Original);
        int[][] words = [.. batch.Original.Select((_, b) => bag.Words[bag.Offsets[b]..bag.Offsets[b + 1]])];
        int[] offsets = new int[words.Length + 1];
        for (int b = 0; b < words.Length; b++) offsets[b + 1] = offsets[b] + batch.Original[b].Length;
        return BagOfWordsReference.Forward(Doubles(transformed), Doubles(masters[BertEmbeddings.WordTable]), Doubles(masters[MaskedLanguageHeadNames.Bert.Bias]),
            transformed.Columns, offsets, 1, words, [.. bag.Weights.Select(weight => (double)weight)]).Loss;
    }
}
