namespace BgeMetal.Training;

/// <summary>
/// How many optimiser steps a run has and which batches each of them takes, as Hugging Face's Trainer counts (transformers 4.44): an epoch of M batches has
/// max(1, M / accumulation) steps, rounded down; a run has ceil(epochs * that) steps, or exactly the number asked for. Batches are numbered through the run, and each
/// step takes the next ones, so what is left of an epoch is taken together with the first batches of the next. Where an epoch has fewer batches than the
/// accumulation asks for, a step takes all of one epoch.
/// </summary>
internal sealed record StepPlan
{
    private StepPlan(int batchesPerEpoch, int accumulation, long totalSteps)
    {
        BatchesPerEpoch = batchesPerEpoch;
        Accumulation = accumulation;
        TotalSteps = totalSteps;
        BatchesPerStep = Math.Min(accumulation, batchesPerEpoch);
    }

    /// <summary>Batches of an epoch.</summary>
    public int BatchesPerEpoch { get; }

    /// <summary>The accumulation asked for: every batch's loss is divided by it, also where a step has fewer batches.</summary>
    public int Accumulation { get; }

    /// <summary>Batches of a step.</summary>
    public int BatchesPerStep { get; }

    /// <summary>Optimiser steps of the run.</summary>
    public long TotalSteps { get; }

    /// <summary>Optimiser steps of an epoch, rounded down.</summary>
    public int StepsPerEpoch => BatchesPerEpoch / BatchesPerStep;

    /// <summary>Batches of the run.</summary>
    public long TotalBatches => TotalSteps * BatchesPerStep;

    /// <summary>Plans a run.</summary>
    /// <param name="batchesPerEpoch">Batches of an epoch.</param>
    /// <param name="accumulation">Batches to add up before a step.</param>
    /// <param name="epochs">Epochs, not necessarily whole. Ignored if <paramref name="maxSteps"/> is above 0.</param>
    /// <param name="maxSteps">Steps of the run; 0 or less to count epochs.</param>
    public static StepPlan Create(int batchesPerEpoch, int accumulation, double epochs, long maxSteps = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(batchesPerEpoch, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(accumulation, 1);
        if (maxSteps > 0) return new StepPlan(batchesPerEpoch, accumulation, maxSteps);
        if (!(epochs > 0 && double.IsFinite(epochs))) throw new ArgumentOutOfRangeException(nameof(epochs), epochs, "a number above 0 was expected");
        return new StepPlan(batchesPerEpoch, accumulation, checked((long)Math.Ceiling(epochs * Math.Max(1, batchesPerEpoch / accumulation))));
    }

    /// <summary>The first batch of a step, counted from the start of the run. A run resumed at that step begins with it.</summary>
    public long FirstBatch(long step) => step * BatchesPerStep;

    /// <summary>The epoch and the batch in it, both from 0, of a batch counted from the start of the run.</summary>
    public (int Epoch, int Batch) Position(long batch) => (checked((int)(batch / BatchesPerEpoch)), (int)(batch % BatchesPerEpoch));

    /// <summary>Epochs done before a step, with fraction: what the log shows.</summary>
    public double EpochAt(long step) => (double)FirstBatch(step) / BatchesPerEpoch;
}
