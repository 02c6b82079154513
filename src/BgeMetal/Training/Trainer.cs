using System.Diagnostics;
using System.Globalization;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>What a run is doing, told after every step.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="TotalSteps">Steps of the run.</param>
/// <param name="Loss">The step's loss.</param>
/// <param name="Tokens">Tokens trained on in this step.</param>
public readonly record struct TrainingProgress(long Step, long TotalSteps, double Loss, long Tokens)
{
    /// <summary>The loss scale after the step; 1 in every precision but fp16.</summary>
    public double LossScale { get; init; }

    /// <summary>Whether the step changed nothing because its gradients were not finite in fp16.</summary>
    public bool IsSkipped { get; init; }
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

    /// <summary>Where it was computed.</summary>
    public ComputeDevice? Device { get; init; }

    /// <summary>What each kernel has taken, the longest first; empty without <see cref="ComputeOptions.Profile"/>.</summary>
    public IReadOnlyList<Kernels.KernelTime> KernelTimes { get; init; } = [];
}

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
    private double _learningRate;
    private bool _isSkipped;

    /// <summary>Measures the model now and then; null for never.</summary>
    public ITrainingEvaluation? Evaluation { get; init; }

    /// <summary>Trains to the end; <paramref name="resumeFolder"/> is the checkpoint that the model was loaded from, or null.</summary>
    public TrainingSummary Run(string? resumeFolder, Action<TrainingProgress>? progress, CancellationToken cancellation)
    {
        try
        {
            return Loop(resumeFolder, progress, cancellation);
        }
        catch (Exception e) when (Device.IsFailure(e))
        {
            throw model.Device.Failure(e);
        }
    }

    private TrainingSummary Loop(string? resumeFolder, Action<TrainingProgress>? progress, CancellationToken cancellation)
    {
        TrainingState state = resumeFolder is null ? default : TrainingState.Restore(resumeFolder, model, _optimizer, fingerprint);
        long start = state.Step;
        _tokens = state.Tokens;
        using TrainLog log = new(options.OutputDirectory, start);
        using BatchPrefetcher<TBatch> batches = new(build, plan.FirstBatch(start), plan.TotalBatches);
        long begun = Stopwatch.GetTimestamp(), lastLog = begun, lastTokens = _tokens;
        Evaluation?.Begin(start, plan.EpochAt(start), cancellation);
        for (long step = start; step < plan.TotalSteps; step++)
        {
            (double loss, double norm, long tokens) = StepOrSave(state, start, batches, cancellation);
            long done = step + 1;
            _tokens += tokens;
            state = new TrainingState(done, _tokens, state.LossSum + loss, state.LossCount + 1, loss);
            if (options.LoggingSteps > 0 && (done % options.LoggingSteps == 0 || done == plan.TotalSteps))
            {
                double seconds = Stopwatch.GetElapsedTime(lastLog).TotalSeconds;
                log.Append(new TrainLogRow(done, plan.EpochAt(done), state.LossSum / state.LossCount, norm, _learningRate, _tokens, (_tokens - lastTokens) / seconds, HeldBytes));
                state = state with { LossSum = 0, LossCount = 0 };
                (lastLog, lastTokens) = (Stopwatch.GetTimestamp(), _tokens);
            }
            if (options.SaveSteps > 0 && done % options.SaveSteps == 0) Save(state);
            Evaluation?.After(done, plan.EpochAt(done), isLast: done == plan.TotalSteps, cancellation);
            progress?.Invoke(new TrainingProgress(done, plan.TotalSteps, loss, tokens) { LossScale = _optimizer.Scaler.Scale, IsSkipped = _isSkipped });
        }
        return new TrainingSummary(plan.TotalSteps, state.LastLoss, _tokens, Stopwatch.GetElapsedTime(begun).TotalSeconds, HeldBytes)
        {
            Device = ComputeDevice.Of(model.Device),
            KernelTimes = model.Device.KernelTimes(),
        };
    }

    private long HeldBytes => model.Parameters.SizeBytes + objective.ReservedBytes;

    private void Save(TrainingState state) => state.Save(options.OutputDirectory, model, form, _optimizer, fingerprint, options.SaveTotalLimit);

    /// <summary>One step; when the run is interrupted, the state before it is saved first, so that nothing is lost.</summary>
    private (double Loss, double Norm, long Tokens) StepOrSave(TrainingState state, long start, BatchPrefetcher<TBatch> batches, CancellationToken cancellation)
    {
        try
        {
            return Step(state.Step, batches, cancellation);
        }
        catch (OperationCanceledException)
        {
            if (state.Step > start) Save(state);
            throw;
        }
    }

    private (double Loss, double Norm, long Tokens) Step(long step, BatchPrefetcher<TBatch> batches, CancellationToken cancellation)
    {
        double sum = 0;
        long tokens = 0;
        ulong seed = 0;
        TBatch? last = null;
        for (int micro = 0; micro < plan.BatchesPerStep; micro++)
        {
            if (!batches.TryTake(out TBatch batch, cancellation)) throw new InvalidOperationException($"step {step}: no batch is left");
            seed = SplitMix64.Mix(((ulong)(uint)options.Seed << 32) ^ (ulong)plan.FirstBatch(step) + (ulong)micro);
            double loss = objective.Backpropagate(batch, (float)(_optimizer.Scaler.Scale / plan.Accumulation), seed);
            if (!double.IsFinite(loss)) throw NotFinite(step, "the loss", loss, batch, seed);
            sum += loss;
            tokens += objective.Tokens(batch);
            last = batch;
        }
        double norm = _optimizer.GradientNorm();
        // As in Hugging Face's Trainer, a step that fp16 skips does not move the schedule.
        _learningRate = _schedule.At(_optimizer.Updates);
        _isSkipped = !double.IsFinite(norm);
        if (!_isSkipped) _optimizer.Step(_learningRate, norm);
        else if (_optimizer.Scaler.IsOn) _optimizer.Skip(step);
        else throw NotFinite(step, "the gradient norm", norm, last!, seed);
        return (sum / plan.BatchesPerStep, norm, tokens);
    }

    private BgeMetalException NotFinite(long step, string what, double value, TBatch batch, ulong seed)
    {
        string layer = objective.FirstNotFinite(batch, seed) is { } first ? $"; the first layer whose result is not finite is {first}" : "";
        string parameter = model.Parameters.FirstNotFinite() is { } name ? $"; the first parameter that is not finite is {name}" : "";
        return new BgeMetalException($"training stopped at step {step + 1}", string.Create(CultureInfo.InvariantCulture, $"{what} is {value}{layer}{parameter}; rows of the batch: {objective.Describe(batch)}"));
    }
}
