using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>What an update came to.</summary>
/// <param name="Norm">The norm of all gradients before clipping; not finite when any gradient is not.</param>
/// <param name="Skipped">Whether the update was left out, because a gradient was not finite.</param>
internal readonly record struct UpdateResult(double Norm, bool Skipped);

/// <summary>
/// Updates all parameters after clipping by the global norm; weight decay leaves biases and LayerNorm gains alone. Gradients that are not finite change
/// nothing. On CUDA the update is enqueued, and <see cref="Finish"/> tells what came of it when the step's numbers have been read.
/// </summary>
internal sealed class AdamWOptimizer(TrainableParameters parameters, TrainingOptions options, Device device)
{
    private double _norm;

    /// <summary>Updates done so far: t of the bias correction.</summary>
    public int Updates { get; set; }

    /// <summary>Keeps the loss scale; null where gradients need none.</summary>
    public LossScaler? Scaler { get; } = device.NeedsLossScale ? new LossScaler() : null;

    /// <summary>What the loss is to be scaled with.</summary>
    public float LossScale => (float)(Scaler?.Scale ?? 1);

    /// <summary>One update, unless a gradient is not finite; then the weights that operations read are new.</summary>
    public void Step(double learningRate, StepScalars scalars)
    {
        AdamWSettings settings = new(learningRate, options.AdamBeta1, options.AdamBeta2, options.AdamEpsilon, options.WeightDecay, Updates + 1);
        if (device.IsCuda)
        {
            AdamWOp.ClipAndStep(device, parameters, settings, options.MaxGradNorm, new UpdateScalars(scalars.Schedule, scalars.LossScale, scalars.Result));
            return;
        }
        _norm = AdamWOp.GradientNorm(device, parameters);
        if (!double.IsFinite(_norm)) return;
        double clip = options.MaxGradNorm > 0 ? Math.Min(1, options.MaxGradNorm / (_norm + 1e-6)) : 1;
        AdamWOp.Step(device, parameters, settings, (float)clip);
        parameters.Repack(device.Team);
    }

    /// <summary>What the last <see cref="Step"/> came to, after <see cref="StepScalars.Read"/>; counts the update and adapts the loss scale.</summary>
    public UpdateResult Finish(StepScalars scalars)
    {
        UpdateResult result = device.IsCuda
            ? new UpdateResult(scalars.ReadResult(UpdateScalars.NormElement), scalars.ReadResult(UpdateScalars.SkippedElement) != 0)
            : new UpdateResult(_norm, !double.IsFinite(_norm));
        if (!result.Skipped) Updates++;
        Scaler?.Update(result.Skipped);
        return result;
    }
}
