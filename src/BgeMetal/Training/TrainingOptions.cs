namespace BgeMetal.Training;

/// <summary>What every trainer has in common; names and defaults are the Hugging Face Trainer's.</summary>
public sealed record TrainingOptions
{
    /// <summary>Where the model, the log and the checkpoints go.</summary>
    public required string OutputDirectory { get; init; }

    /// <summary>Replace what the output directory holds.</summary>
    public bool OverwriteOutputDirectory { get; init; }

    /// <summary>The highest learning rate.</summary>
    public double LearningRate { get; init; } = 5e-5;

    /// <summary>Passes over the data; ignored when <see cref="MaxSteps"/> is given.</summary>
    public double Epochs { get; init; } = 3;

    /// <summary>Optimiser steps; 0 means as many as the epochs give.</summary>
    public int MaxSteps { get; init; }

    /// <summary>Rows of one forward pass.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>Forward passes whose gradients are averaged into one step.</summary>
    public int GradientAccumulationSteps { get; init; } = 1;

    /// <summary>Whether a last batch that is too small is left out.</summary>
    public bool DropLast { get; init; }

    /// <summary>Whether the order of rows is drawn anew for each epoch.</summary>
    public bool Shuffle { get; init; } = true;

    /// <summary>The learning rate's course.</summary>
    public LearningRateShape Schedule { get; init; }

    /// <summary>Share of the steps that warm up; <see cref="WarmupSteps"/> wins when it is not 0.</summary>
    public double WarmupRatio { get; init; }

    /// <summary>Steps that warm up.</summary>
    public int WarmupSteps { get; init; }

    /// <summary>Decoupled decay of weights and tables.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Adam's first decay rate.</summary>
    public double AdamBeta1 { get; init; } = 0.9;

    /// <summary>Adam's second decay rate.</summary>
    public double AdamBeta2 { get; init; } = 0.999;

    /// <summary>Added to the root of Adam's second moment.</summary>
    public double AdamEpsilon { get; init; } = 1e-8;

    /// <summary>Gradients are scaled down to this norm; 0 leaves them.</summary>
    public double MaxGradNorm { get; init; } = 1;

    /// <summary>Steps between two rows of the log.</summary>
    public int LoggingSteps { get; init; } = 10;

    /// <summary>Steps between two checkpoints; 0 for none.</summary>
    public int SaveSteps { get; init; }

    /// <summary>Checkpoints kept, the oldest deleted first; 0 keeps all.</summary>
    public int SaveTotalLimit { get; init; }

    /// <summary>A checkpoint folder to go on from, or <c>latest</c>; null starts anew.</summary>
    public string? ResumeFrom { get; init; }

    /// <summary>Seed of order, sampling and dropout.</summary>
    public int Seed { get; init; } = 42;

    /// <summary>Retrieval measured during the training; null for none.</summary>
    public EvaluationOptions? Evaluation { get; init; }

    /// <summary>Where to compute.</summary>
    public Retrieval.ComputeOptions Compute { get; init; } = new();
}
