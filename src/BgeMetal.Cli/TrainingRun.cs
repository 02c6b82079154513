using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Training;

namespace BgeMetal.Cli;

/// <summary>Shows a training run: a bar of steps, and the loss now and then.</summary>
internal static class TrainingRun
{
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(10);

    /// <summary>Runs a trainer under a progress display.</summary>
    public static TrainingSummary Watch(Terminal terminal, Func<Action<TrainingProgress>, TrainingSummary> run)
    {
        Progress? bar = null;
        DateTime said = DateTime.UtcNow;
        try
        {
            TrainingSummary summary = run(step =>
            {
                if (step.IsSkipped)
                    terminal.Say(string.Create(CultureInfo.InvariantCulture, $"step {step.Step} skipped: its gradients are not finite in fp16; the loss scale is now {step.LossScale}"));
                bar ??= terminal.Watch("training", "steps", step.TotalSteps);
                bar.Report(1);
                if (DateTime.UtcNow - said < s_interval) return;
                said = DateTime.UtcNow;
                terminal.Say(string.Create(CultureInfo.InvariantCulture, $"step {step.Step} of {step.TotalSteps}: loss {step.Loss:0.0000}"));
            });
            if (summary.Device is { } device) ComputeOptionSet.Tell(terminal, device);
            KernelTable.Show(terminal, summary.KernelTimes);
            return summary;
        }
        finally
        {
            bar?.Dispose();
        }
    }

    /// <summary>Says in one line what a run came to.</summary>
    public static void Say(Terminal terminal, TrainingSummary summary, string modelDirectory) => terminal.Say(string.Create(CultureInfo.InvariantCulture,
        $"trained {summary.Steps} steps, {summary.Tokens:N0} tokens in {summary.Seconds:0.0} s: last loss {summary.FinalLoss:0.0000}; the model is in {modelDirectory}"));
}
