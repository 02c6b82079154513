using System.Diagnostics;
using System.Globalization;
using BgeMetal.Data.Training;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>What a run is doing, told after every step.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="TotalSteps">Steps of the run.</param>
/// <param name="Loss">The step's loss.</param>
/// <param name="Tokens">Tokens trained on in this step.</param>
public readonly record struct TrainingProgress(long Step, long TotalSteps, double Loss, long Tokens)
{
    /// <summary>Why the step changed no weight; null when it did.</summary>
    public string? Skipped { get; init; }
}

/// <summary>The outcome of a run.</summary>
/// <param name="Steps">Optimiser steps of the run, those before a resume included.</param>
/// <param name="FinalLoss">Loss of the last step.</param>
/// <param name="Tokens">Tokens trained on.</param>
/// <param name="Seconds">Seconds of this process's steps.</param>
/// <param name="PeakBytes">Bytes of weights, gradients, moments and activations held.</param>
public sealed record TrainingSummary(long Steps, double FinalLoss, long Tokens, double Seconds, long PeakBytes)
{
    /// <summary>What was expected to be held before the first step; 0 where the trainer makes no prediction.</summary>
    public long PredictedBytes { get; init; }

    /// <summary>Steps of this process that changed no weight, because a gradient overflowed in fp16.</summary>
    public long SkippedSteps { get; init; }
}

/// <summary>
/// The loop: batches in order, gradients accumulated and averaged, clipped, one AdamW update a step; log, checkpoints, resume. Every random choice is
/// a function of seed and step, so a resumed run continues bit for bit and the number of threads never shows. On CUDA a step is enqueued whole, and the host
/// waits once, at its end, for losses and norm; in fp16 a step whose gradients overflow is left out, and neither bias correction nor schedule count it.
/// </summary>
internal sealed class Trainer<TBatch>(
    TrainableModel model, SavedForm form, TrainingOptions options, StepPlan plan, ITrainingObjective<TBatch> objective, Func<long, TBatch> build, string fingerprint)
    where TBatch : class
{
    private readonly AdamWOptimizer _optimizer = new(model.Parameters, options, model.Device);

    private readonly LearningRateSchedule _schedule = LearningRateSchedule.Create(
        options.Schedule, options.LearningRate, plan.TotalSteps, options.WarmupRatio, options.WarmupSteps);

    private long _tokens;
    private long _skipped;

    /// <summary>Measures the model now and then; null for never.</summary>
    public ITrainingEvaluation? Evaluation { get; init; }

    /// <summary>Trains to the end; <paramref name="resumeFolder"/> is the checkpoint that the model was loaded from, or null.</summary>
    public TrainingSummary Run(string? resumeFolder, Action<TrainingProgress>? progress, CancellationToken cancellation)
    {
        TrainingState state = resumeFolder is null ? default : TrainingState.Restore(resumeFolder, model, _optimizer, fingerprint);
        long start = state.Step;
        _tokens = state.Tokens;
        using StepScalars scalars = new(model.Device, plan.BatchesPerStep);
        using TrainLog log = new(options.OutputDirectory, start);
        using BatchPrefetcher<TBatch> batches = new(build, plan.FirstBatch(start), plan.TotalBatches);
        long begun = Stopwatch.GetTimestamp(), lastLog = begun, lastTokens = _tokens;
        Evaluation?.Begin(start, plan.EpochAt(start), cancellation);
        for (long step = start; step < plan.TotalSteps; step++)
        {
            double rate = _schedule.At(_optimizer.Updates);
            (double loss, double norm, long tokens, string? skipped) = StepOrSave(state, start, batches, scalars, rate, cancellation);
            long done = step + 1;
            if (skipped is not null) _skipped++;
            _tokens += tokens;
            state = new TrainingState(done, _tokens, state.LossSum + loss, state.LossCount + 1, loss);
            if (options.LoggingSteps > 0 && (done % options.LoggingSteps == 0 || done == plan.TotalSteps))
            {
                double seconds = Stopwatch.GetElapsedTime(lastLog).TotalSeconds;
                log.Append(new TrainLogRow(done, plan.EpochAt(done), state.LossSum / state.LossCount, norm, rate, _tokens, (_tokens - lastTokens) / seconds, HeldBytes));
                state = state with { LossSum = 0, LossCount = 0 };
                (lastLog, lastTokens) = (Stopwatch.GetTimestamp(), _tokens);
            }
            if (options.SaveSteps > 0 && done % options.SaveSteps == 0) Save(state);
            Evaluation?.After(done, plan.EpochAt(done), isLast: done == plan.TotalSteps, cancellation);
            progress?.Invoke(new TrainingProgress(done, plan.TotalSteps, loss, tokens) { Skipped = skipped });
        }
        return new TrainingSummary(plan.TotalSteps, state.LastLoss, _tokens, Stopwatch.GetElapsedTime(begun).TotalSeconds, HeldBytes) { SkippedSteps = _skipped };
    }

    private long HeldBytes => model.Parameters.SizeBytes + objective.ReservedBytes;

    private void Save(TrainingState state) => state.Save(options.OutputDirectory, model, form, _optimizer, fingerprint, options.SaveTotalLimit);

    /// <summary>One step; when the run is interrupted, the state before it is saved first, so that nothing is lost.</summary>
    private (double Loss, double Norm, long Tokens, string? Skipped) StepOrSave(
        TrainingState state, long start, BatchPrefetcher<TBatch> batches, StepScalars scalars, double rate, CancellationToken cancellation)
    {
        try
        {
            return Step(state.Step, batches, scalars, rate, cancellation);
        }
        catch (OperationCanceledException)
        {
            if (state.Step > start) Save(state);
            throw;
        }
    }

    private (double Loss, double Norm, long Tokens, string? Skipped) Step(
        long step, BatchPrefetcher<TBatch> batches, StepScalars scalars, double rate, CancellationToken cancellation)
    {
        (TBatch Batch, ulong Seed)[] taken = new (TBatch, ulong)[plan.BatchesPerStep];
        float scale = _optimizer.LossScale;
        scalars.Begin(scale, 1f / plan.Accumulation);
        model.Parameters.ZeroGradients();
        for (int micro = 0; micro < taken.Length; micro++)
        {
            if (!batches.TryTake(out TBatch batch, cancellation)) throw new InvalidOperationException($"step {step}: no batch is left");
            taken[micro] = (batch, SplitMix64.Mix(((ulong)(uint)options.Seed << 32) ^ (ulong)plan.FirstBatch(step) + (ulong)micro));
            objective.Backpropagate(batch, scalars.LossGradient, taken[micro].Seed, scalars.Loss(micro));
            if (model.Device.Kind == DeviceKind.Cpu && !float.IsFinite(scalars.Loss(micro).Value))
                throw NotFinite(step, "the loss", scalars.Loss(micro).Value, taken[micro].Batch, taken[micro].Seed);
        }
        _optimizer.Step(rate, scalars);
        scalars.Read();
        UpdateResult update = _optimizer.Finish(scalars);
        double sum = 0;
        for (int micro = 0; micro < taken.Length; micro++)
        {
            double loss = scalars.ReadLoss(micro);
            if (!double.IsFinite(loss)) throw NotFinite(step, "the loss", loss, taken[micro].Batch, taken[micro].Seed);
            sum += loss;
        }
        if (update.Skipped && _optimizer.Scaler is not { IsExhausted: false }) throw NotFinite(step, "the gradient norm", update.Norm, taken[^1].Batch, taken[^1].Seed);
        string? skipped = update.Skipped
            ? string.Create(CultureInfo.InvariantCulture, $"a gradient is not finite in fp16 with a loss scale of {scale:0.######}; it is {_optimizer.LossScale:0.######} from here on")
            : null;
        return (sum / taken.Length, update.Norm, taken.Sum(entry => objective.Tokens(entry.Batch)), skipped);
    }

    private BgeMetalException NotFinite(long step, string what, double value, TBatch batch, ulong seed)
    {
        string? name = model.Parameters.FirstNotFinite(withGradients: what != "the loss" || model.Device.Kind == DeviceKind.Cpu);
        string layer = objective.FirstNotFinite(batch, seed) is { } first ? $"; the first layer whose result is not finite is {first}" : "";
        string parameter = name is null ? "" : $"; the first parameter that is not finite is {name}";
        return new BgeMetalException($"training stopped at step {step + 1}", string.Create(CultureInfo.InvariantCulture, $"{what} is {value}{layer}{parameter}; rows of the batch: {objective.Describe(batch)}"));
    }
}
