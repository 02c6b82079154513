using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>The same run gives the same bits: again, with other threads, and after an interruption anywhere. The model has dropout 0.1.</summary>
public sealed class ReproducibilityTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    private static readonly object s_gate = new();
    private static byte[]? s_expected;

    private byte[] Expected
    {
        get
        {
            lock (s_gate)
            {
                if (s_expected is not null) return s_expected;
                folder.Train(folder.Options("plain"));
                return s_expected = folder.Weights("plain");
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_rerun_gives_the_same_weights_with_any_number_of_threads(int threads)
    {
        folder.Train(folder.Options($"threads{threads}", threads));
        Assert.Equal(Expected, folder.Weights($"threads{threads}"));
        Assert.NotEqual(File.ReadAllBytes(Path.Combine(folder.Model, "model.safetensors")), Expected);
    }

    [Fact]
    public void A_resumed_run_ends_with_the_same_weights_and_the_same_log_wherever_it_was_cut()
    {
        TrainingOptions options = folder.Options("cut") with { SaveSteps = 1 };
        folder.Train(options);
        Assert.Equal(Expected, folder.Weights("cut"));
        string log = Losses("cut");
        foreach (int step in (int[])[1, 4, 7, 8])
        {
            folder.Train(options with { ResumeFrom = Path.Combine(options.OutputDirectory, $"checkpoint-{step}") });
            Assert.Equal(Expected, folder.Weights("cut"));
            Assert.Equal(log, Losses("cut"));
        }
        File.Delete(Path.Combine(options.OutputDirectory, "model.safetensors"));
        TrainingSummary summary = folder.Train(options with { ResumeFrom = "latest", Compute = options.Compute with { Threads = 1 } });
        Assert.Equal(Expected, folder.Weights("cut"));
        Assert.True(double.IsFinite(summary.FinalLoss));
    }

    [Fact]
    public void An_interrupted_run_leaves_a_checkpoint_from_which_it_goes_on_bit_for_bit()
    {
        TrainingOptions options = folder.Options("interrupted");
        using CancellationTokenSource stop = new();
        Assert.Throws<OperationCanceledException>(() => folder.Train(options, progress: step =>
        {
            if (step.Step == 5) stop.Cancel();
        }, cancellation: stop.Token));
        Assert.Equal(["checkpoint-5", "train_log.csv"], Entries("interrupted"));
        folder.Train(options with { ResumeFrom = "latest" });
        Assert.Equal(Expected, folder.Weights("interrupted"));
    }

    [Fact]
    public void Only_the_newest_checkpoints_stay_and_a_new_run_starts_without_any()
    {
        TrainingOptions options = folder.Options("limited") with { SaveSteps = 2, SaveTotalLimit = 2 };
        folder.Train(options);
        Assert.Equal(["checkpoint-6", "checkpoint-8"], Entries("limited").Where(name => name.Contains("checkpoint", StringComparison.Ordinal)));
        Directory.CreateDirectory(Path.Combine(options.OutputDirectory, ".checkpoint-4.partial"));
        folder.Train(options with { SaveSteps = 0, OverwriteOutputDirectory = true });
        Assert.DoesNotContain(Entries("limited"), name => name.Contains("checkpoint", StringComparison.Ordinal));
        Assert.Equal(Expected, folder.Weights("limited"));
    }

    [Fact]
    public void A_checkpoint_of_another_run_is_refused()
    {
        TrainingOptions options = folder.Options("other") with { SaveSteps = 4 };
        folder.Train(options);
        string what = Assert.Throws<BgeMetalException>(() => folder.Train(options with { ResumeFrom = "latest" }, folder.Task with { Temperature = 0.05 })).Message;
        Assert.Contains("other options", what, StringComparison.Ordinal);
        Assert.Throws<BgeMetalException>(() => folder.Train(options with { ResumeFrom = "latest", WeightDecay = 0.5 }));
        Assert.Throws<BgeMetalException>(() => folder.Train(options with { ResumeFrom = folder.Out("nowhere") }));
        File.WriteAllText(Path.Combine(options.OutputDirectory, "checkpoint-8", "trainer_state.json"), "{\"step\": 8");
        Assert.Contains("trainer_state.json", Assert.Throws<BgeMetalException>(() => folder.Train(options with { ResumeFrom = "latest" })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_torn_line_at_the_end_of_the_log_does_not_hinder_a_resume()
    {
        TrainingOptions options = folder.Options("torn") with { SaveSteps = 4 };
        folder.Train(options);
        string log = Losses("torn");
        File.AppendAllText(Path.Combine(options.OutputDirectory, "train_log.csv"), "12,0.5");
        folder.Train(options with { ResumeFrom = Path.Combine(options.OutputDirectory, "checkpoint-4") });
        Assert.Equal(log, Losses("torn"));
    }

    [Fact]
    public void The_log_has_its_columns_and_a_line_for_the_last_step()
    {
        folder.Train(folder.Options("logged"));
        string[] lines = File.ReadAllLines(Path.Combine(folder.Out("logged"), "train_log.csv"));
        Assert.Equal("step,epoch,loss,grad_norm,learning_rate,tokens,tokens_per_second,peak_bytes", lines[0]);
        IReadOnlyList<TrainLogRow> rows = TrainLog.Rows(Path.Combine(folder.Out("logged"), "train_log.csv"));
        Assert.Equal([2L, 4, 6, 8, 9], rows.Select(row => row.Step));
        Assert.Equal(9 / 6.0, rows[^1].Epoch, 1e-6);
        Assert.All(rows, row => Assert.True(row is { Loss: > 0, GradNorm: > 0, Tokens: > 0, TokensPerSecond: > 0, PeakBytes: > 0 }));
        Assert.Equal(0.5e-3, rows[0].LearningRate);
        Assert.True(File.Exists(Path.Combine(folder.Out("logged"), "loss.png")));
        Assert.True(File.Exists(Path.Combine(folder.Out("logged"), "training_args.json")));
    }

    private string[] Entries(string output) => [.. Directory.GetFileSystemEntries(folder.Out(output)).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];

    /// <summary>The log without its timings and its memory.</summary>
    private string Losses(string output) => string.Join('\n', TrainLog.Rows(Path.Combine(folder.Out(output), "train_log.csv"))
        .Select(row => $"{row.Step} {row.Loss:r} {row.GradNorm:r} {row.LearningRate:r} {row.Tokens}"));
}
