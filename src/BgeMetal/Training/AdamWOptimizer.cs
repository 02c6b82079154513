using BgeMetal.Kernels;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// Updates all parameters after clipping by the global norm; weight decay leaves biases and LayerNorm gains alone. Gradients that are not finite change nothing. On
/// CUDA an update is only enqueued, and <see cref="Finish"/> waits for it.
/// </summary>
internal sealed class AdamWOptimizer(TrainableParameters parameters, TrainingOptions options, Device device)
{
    private double _norm;

    /// <summary>Updates done so far: t of the bias correction.</summary>
    public int Updates { get; set; }

    /// <summary>The loss scale of fp16; off in other precisions.</summary>
    public LossScaler Scaler { get; } = new(device.DType == DType.Float16);

    /// <summary>One update with gradients that are scaled by the loss scale, if they are finite; then the weights that operations read are new.</summary>
    public void Step(double learningRate)
    {
        parameters.ClearFrozenGradients();
        AdamWSettings settings = new(learningRate, options.AdamBeta1, options.AdamBeta2, options.AdamEpsilon, options.WeightDecay, Updates + 1);
        if (device.IsCuda)
        {
            AdamWOp.ClipAndStep(device, parameters, settings, options.MaxGradNorm, Scaler.Scale);
            return;
        }
        _norm = AdamWOp.GradientNorm(device, parameters);
        if (!double.IsFinite(_norm)) return;
        double clip = options.MaxGradNorm > 0 ? Math.Min(1, options.MaxGradNorm / (_norm + 1e-6)) : 1;
        AdamWOp.Step(device, parameters, settings, (float)clip);
        parameters.Repack(device.Team);
    }

    /// <summary>
    /// Waits for the last <see cref="Step"/> and returns the norm of its gradients, without the loss scale and before clipping. Where that is not finite nothing was
    /// changed, and the step does not count as an update.
    /// </summary>
    public double Finish()
    {
        if (device.IsCuda) _norm = parameters.Scalars!.ReadNorm();
        if (!double.IsFinite(_norm)) return _norm;
        Updates++;
        Scaler.Good();
        return _norm;
    }
}
