using System.Diagnostics;
using BgeMetal.Data.Training;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>What a run is doing, told after every step.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="TotalSteps">Steps of the run.</param>
/// <param name="Loss">The step's loss.</param>
/// <param name="Tokens">Tokens trained on in this step.</param>
public readonly record struct TrainingProgress(long Step, long TotalSteps, double Loss, long Tokens);

/// <summary>The outcome of a run.</summary>
/// <param name="Steps">Optimiser steps of the run, those before a resume included.</param>
/// <param name="FinalLoss">Loss of the last step.</param>
/// <param name="Tokens">Tokens trained on.</param>
/// <param name="Seconds">Seconds of this process's steps.</param>
/// <param name="PeakBytes">Bytes of weights, gradients, moments and activations held.</param>
public sealed record TrainingSummary(long Steps, double FinalLoss, long Tokens, double Seconds, long PeakBytes);

/// <summary>
/// The loop: batches in order, gradients accumulated and averaged, clipped, one AdamW update a step; log, checkpoints, resume. Every random choice is
/// a function of seed and step, so a resumed run continues bit for bit and the number of threads never shows.
/// </summary>
internal sealed class Trainer<TBatch>(
    TrainableModel model, SavedForm form, TrainingOptions options, StepPlan plan, ITrainingObjective<TBatch> objective, Func<long, TBatch> build, string fingerprint)
    where TBatch : class
{
    private readonly AdamWOptimizer _optimizer = new(model.Parameters, options, model.Device);

    private readonly LearningRateSchedule _schedule = LearningRateSchedule.Create(
        options.Schedule, options.LearningRate, plan.TotalSteps, options.WarmupRatio, options.WarmupSteps);

    private long _tokens;

    /// <summary>Trains to the end; <paramref name="resumeFolder"/> is the checkpoint that the model was loaded from, or null.</summary>
    public TrainingSummary Run(string? resumeFolder, Action<TrainingProgress>? progress, CancellationToken cancellation)
    {
        long start = 0;
        if (resumeFolder is not null) (start, _tokens) = TrainingState.Restore(resumeFolder, model, _optimizer, fingerprint);
        using TrainLog log = new(options.OutputDirectory, start);
        using BatchPrefetcher<TBatch> batches = new(build, plan.FirstBatch(start), plan.TotalBatches);
        long begun = Stopwatch.GetTimestamp(), lastLog = begun, lastTokens = _tokens;
        double lossSum = 0, loss = double.NaN;
        int lossCount = 0;
        for (long step = start; step < plan.TotalSteps; step++)
        {
            long before = _tokens;
            (loss, double norm) = Step(step, batches, cancellation);
            lossSum += loss;
            lossCount++;
            long done = step + 1;
            if (options.LoggingSteps > 0 && (done % options.LoggingSteps == 0 || done == plan.TotalSteps))
            {
                double seconds = Stopwatch.GetElapsedTime(lastLog).TotalSeconds;
                log.Append(new TrainLogRow(done, plan.EpochAt(done), lossSum / lossCount, norm, _schedule.At(step), _tokens, (_tokens - lastTokens) / seconds, HeldBytes));
                (lossSum, lossCount, lastLog, lastTokens) = (0, 0, Stopwatch.GetTimestamp(), _tokens);
            }
            if (options.SaveSteps > 0 && done % options.SaveSteps == 0)
                TrainingState.Save(options.OutputDirectory, done, model, form, _optimizer, _tokens, fingerprint, options.SaveTotalLimit);
            progress?.Invoke(new TrainingProgress(done, plan.TotalSteps, loss, _tokens - before));
        }
        return new TrainingSummary(plan.TotalSteps, loss, _tokens, Stopwatch.GetElapsedTime(begun).TotalSeconds, HeldBytes);
    }

    private long HeldBytes => model.Parameters.SizeBytes + objective.ReservedBytes;

    private (double Loss, double Norm) Step(long step, BatchPrefetcher<TBatch> batches, CancellationToken cancellation)
    {
        double sum = 0;
        TBatch? last = null;
        for (int micro = 0; micro < plan.BatchesPerStep; micro++)
        {
            if (!batches.TryTake(out TBatch batch, cancellation)) throw new InvalidOperationException($"step {step}: no batch is left");
            double loss = objective.Backpropagate(batch, 1f / plan.Accumulation, SplitMix64.Mix(((ulong)(uint)options.Seed << 32) ^ (ulong)plan.FirstBatch(step) + (ulong)micro));
            if (!double.IsFinite(loss)) throw NotFinite(step, "the loss", loss, batch);
            sum += loss;
            _tokens += objective.Tokens(batch);
            last = batch;
        }
        double norm = _optimizer.GradientNorm();
        if (!double.IsFinite(norm)) throw NotFinite(step, "the gradient norm", norm, last!);
        _optimizer.Step(_schedule.At(step), norm);
        return (sum / plan.BatchesPerStep, norm);
    }

    private BgeMetalException NotFinite(long step, string what, double value, TBatch batch)
    {
        string parameter = model.Parameters.FirstNotFinite() is { } name ? $"; the first parameter that is not finite is {name}" : "";
        return new BgeMetalException($"training stopped at step {step + 1}", $"{what} is {value}{parameter}; rows of the batch: {objective.Describe(batch)}");
    }
}
