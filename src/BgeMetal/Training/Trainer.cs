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
/// a function of seed and step, so a resumed run continues bit for bit and the number of threads never shows. On CUDA a step is enqueued whole, and the host
/// waits once, at its end, for losses and norm.
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
        using StepScalars scalars = new(model.Device, plan.BatchesPerStep);
        using TrainLog log = new(options.OutputDirectory, start);
        // A GPU's step is short: one thread may not make batches as fast. What is in a batch depends on its number alone.
        int makers = model.Device.Kind == DeviceKind.Cuda ? Math.Clamp(model.Device.Team.Threads / 2, 1, 4) : 1;
        using BatchPrefetcher<TBatch> batches = new(build, plan.FirstBatch(start), plan.TotalBatches, threads: makers);
        long begun = Stopwatch.GetTimestamp(), lastLog = begun, lastTokens = _tokens;
        Evaluation?.Begin(start, plan.EpochAt(start), cancellation);
        for (long step = start; step < plan.TotalSteps; step++)
        {
            (double loss, double norm, long tokens) = StepOrSave(state, start, batches, scalars, cancellation);
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
    private (double Loss, double Norm, long Tokens) StepOrSave(TrainingState state, long start, BatchPrefetcher<TBatch> batches, StepScalars scalars, CancellationToken cancellation)
    {
        try
        {
            return Step(state.Step, batches, scalars, cancellation);
        }
        catch (OperationCanceledException)
        {
            if (state.Step > start) Save(state);
            throw;
        }
    }

    private (double Loss, double Norm, long Tokens) Step(long step, BatchPrefetcher<TBatch> batches, StepScalars scalars, CancellationToken cancellation)
    {
        (TBatch Batch, ulong Seed)[] taken = new (TBatch, ulong)[plan.BatchesPerStep];
        // As in Hugging Face's Trainer, a step that fp16 skips does not move the schedule.
        _learningRate = _schedule.At(_optimizer.Updates);
        scalars.Begin(_optimizer.Scaler.Scale / plan.Accumulation);
        model.Parameters.ZeroGradients();
        for (int micro = 0; micro < taken.Length; micro++)
        {
            if (!batches.TryTake(out TBatch batch, cancellation)) throw new InvalidOperationException($"step {step}: no batch is left");
            taken[micro] = (batch, SplitMix64.Mix(((ulong)(uint)options.Seed << 32) ^ (ulong)plan.FirstBatch(step) + (ulong)micro));
            objective.Backpropagate(batch, scalars.LossGradient, taken[micro].Seed, scalars.Loss(micro));
            if (model.Device.Kind == DeviceKind.Cpu && !float.IsFinite(scalars.Loss(micro).Value)) throw NotFinite(step, "the loss", scalars.Loss(micro).Value, taken[micro]);
        }
        _optimizer.Step(_learningRate);
        double sum = 0;
        foreach ((int micro, float loss) in scalars.ReadLosses().ToArray().Index())
        {
            if (!float.IsFinite(loss)) throw NotFinite(step, "the loss", loss, taken[micro]);
            sum += loss;
        }
        double norm = _optimizer.Finish();
        _isSkipped = !double.IsFinite(norm);
        if (_isSkipped && !_optimizer.Scaler.IsOn) throw NotFinite(step, "the gradient norm", norm, taken[^1]);
        if (_isSkipped) _optimizer.Scaler.Overflow(step);
        return (sum / taken.Length, norm, taken.Sum(entry => objective.Tokens(entry.Batch)));
    }

    private BgeMetalException NotFinite(long step, string what, double value, (TBatch Batch, ulong Seed) at)
    {
        string layer = objective.FirstNotFinite(at.Batch, at.Seed) is { } first ? $"; the first layer whose result is not finite is {first}" : "";
        string parameter = model.Parameters.FirstNotFinite() is { } name ? $"; the first parameter that is not finite is {name}" : "";
        return new BgeMetalException($"training stopped at step {step + 1}", string.Create(CultureInfo.InvariantCulture, $"{what} is {value}{layer}{parameter}; rows of the batch: {objective.Describe(at.Batch)}"));
    }
}
