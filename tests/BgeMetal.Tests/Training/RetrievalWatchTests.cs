using BgeMetal.Tests.Cli;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>Retrieval measured during the training.</summary>
public sealed class RetrievalWatchTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    [Fact]
    public void Every_measurement_is_a_line_and_the_best_model_is_kept()
    {
        TrainingOptions options = folder.Options("watched") with { Evaluation = Evaluation(steps: 4) };
        folder.Train(options);
        string[][] lines = Lines("watched");
        Assert.Equal(["step", "epoch", "queries", "ndcg@1", "ndcg@5", "ndcg@10"], lines[0][..6]);
        Assert.Equal(["0", "4", "8", "9"], lines[1..].Select(line => line[0]));
        double best = lines[1..].Max(line => double.Parse(line[5], System.Globalization.CultureInfo.InvariantCulture));
        Assert.Equal(best, Measure(Path.Combine(folder.Out("watched"), "best_model")), 1e-6);
        Assert.Equal(double.Parse(lines[^1][5], System.Globalization.CultureInfo.InvariantCulture), Measure(folder.Out("watched")), 1e-6);
    }

    [Fact]
    public void Measuring_does_not_change_the_training()
    {
        folder.Train(folder.Options("blind"));
        folder.Train(folder.Options("seeing") with { Evaluation = Evaluation(steps: 1) });
        Assert.Equal(folder.Weights("blind"), folder.Weights("seeing"));
    }

    [Fact]
    public void A_resumed_run_ends_with_the_same_lines()
    {
        TrainingOptions options = folder.Options("cut") with { Evaluation = Evaluation(steps: 2), SaveSteps = 4 };
        folder.Train(options);
        string whole = File.ReadAllText(Path.Combine(options.OutputDirectory, "eval_log.csv"));
        folder.Train(options with { ResumeFrom = Path.Combine(options.OutputDirectory, "checkpoint-4") });
        Assert.Equal(whole, File.ReadAllText(Path.Combine(options.OutputDirectory, "eval_log.csv")));
    }

    [Fact]
    public void What_cannot_be_measured_is_said_before_the_first_step()
    {
        Assert.Contains("--metric-for-best-model", Assert.Throws<BgeMetalException>(() =>
            folder.Train(folder.Options("loss") with { Evaluation = Evaluation(1) with { Metric = "eval_loss" } })).Message, StringComparison.Ordinal);
        Assert.Contains("no such folder", Assert.Throws<BgeMetalException>(() =>
            folder.Train(folder.Options("nodata") with { Evaluation = new EvaluationOptions { DataDirectory = folder.Out("nowhere") } })).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(folder.Out("loss"), "train_log.csv")));
    }

    [Fact]
    public void The_command_takes_flag_embeddings_options_and_says_what_it_does_with_them()
    {
        string data = Evaluation(0).DataDirectory;
        CliRun run = CliRun.Succeeds("finetune", "--model_name_or_path", folder.Model, "--train_data", folder.Rows, "--output_dir", folder.Out("cli"), "--max_steps", "2", "--fp16",
            "--normlized", "False", "--temperature", "0.02", "--negatives_cross_device", "--train_group_size", "2", "--eval-data", data, "--metric-for-best-model", "mrr@3");
        Assert.Contains("--fp16: the CPU computes in fp32", run.Error, StringComparison.Ordinal);
        Assert.Contains("--normlized False: inner products are divided by --temperature 0.02", run.Error, StringComparison.Ordinal);
        Assert.Contains("--negatives-cross-device: there is one device", run.Error, StringComparison.Ordinal);
        Assert.Contains("mrr@3", Lines("cli")[0]);
        CliRun.Succeeds("finetune", "--model", folder.Model, "--train-data", folder.Rows, "--output-dir", folder.Out("fp32"), "--max-steps", "2", "--train-group-size", "2",
            "--normalize-embeddings", "false", "--temperature", "0.02");
        Assert.Equal(folder.Weights("fp32"), folder.Weights("cli"));
    }

    private string[][] Lines(string output) => [.. File.ReadAllLines(Path.Combine(folder.Out(output), "eval_log.csv")).Select(line => line.Split(','))];

    private EvaluationOptions Evaluation(int steps) => new() { DataDirectory = RetrievalFolder.Write(folder.Out("beir")), Steps = steps };

    private double Measure(string model) => RetrievalFolder.Measure(model, Evaluation(0).DataDirectory);
}
