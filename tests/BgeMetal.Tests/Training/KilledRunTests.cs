using System.Diagnostics;
using BgeMetal.Cli;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>A process that trains, killed at any moment, goes on from its last checkpoint as if nothing had happened.</summary>
public sealed class KilledRunTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    private const int Kills = 20;

    [Fact]
    public async Task A_run_killed_again_and_again_ends_with_the_weights_of_an_undisturbed_one()
    {
        string[] run = ["finetune", "--model", folder.Model, "--train-data", folder.Rows, "--output-dir", folder.Out("killed"), "--max-steps", "600", "--per-device-train-batch-size", "2",
            "--train-group-size", "2", "--save-steps", "5", "--save-total-limit", "2", "--learning-rate", "1e-4", "--logging-steps", "7", "--quiet"];
        Random random = new(17);
        for (int kill = 0; kill < Kills; kill++)
        {
            using Process process = Start([.. run, .. kill == 0 ? [] : (string[])["--resume-from-checkpoint", "latest"]]);
            long begun = Latest();
            for (int i = 0; i < 1200 && Latest() <= begun && !process.HasExited; i++) await Task.Delay(50, TestContext.Current.CancellationToken);
            await Task.Delay(random.Next(300), TestContext.Current.CancellationToken);
            if (process.HasExited)                        // a machine so busy that this test slept while the run went to its end: the kills so far must do
            {
                Assert.True(kill > 0 && process.ExitCode == 0, $"the run ended before it was killed: {await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken)}");
                break;
            }
            process.Kill();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        using Process last = Start([.. run, "--resume-from-checkpoint", "latest"]);
        string error = await last.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await last.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(last.ExitCode == 0, error);
        folder.Train(folder.Options("undisturbed") with { MaxSteps = 600, BatchSize = 2, LearningRate = 1e-4, WarmupRatio = 0, WeightDecay = 0 },
            new FinetuneOptions { TrainData = [folder.Rows], TrainGroupSize = 2 });
        Assert.Equal(folder.Weights("undisturbed"), folder.Weights("killed"));
        Assert.Empty(Directory.GetFileSystemEntries(folder.Out("killed"), ".*"));
    }

    private long Latest() => !Directory.Exists(folder.Out("killed")) ? 0
        : Directory.GetDirectories(folder.Out("killed"), "checkpoint-*").Select(path => long.Parse(Path.GetFileName(path)["checkpoint-".Length..], System.Globalization.CultureInfo.InvariantCulture)).DefaultIfEmpty().Max();

    private static Process Start(string[] arguments) =>
        Process.Start(new ProcessStartInfo("dotnet", [typeof(CommandLine).Assembly.Location, .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
}
