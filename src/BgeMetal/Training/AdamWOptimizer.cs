using BgeMetal.Kernels;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>Updates all parameters after clipping by the global norm; weight decay leaves biases and LayerNorm gains alone.</summary>
internal sealed class AdamWOptimizer(TrainableParameters parameters, TrainingOptions options, Device device)
{
    /// <summary>Updates done so far: t of the bias correction.</summary>
    public int Updates { get; set; }

    /// <summary>The loss scale of fp16; off in other precisions.</summary>
    public LossScaler Scaler { get; } = new(device.DType == DType.Float16);

    /// <summary>The norm of all gradients, unscaled and before clipping. Not finite when any gradient is not.</summary>
    public double GradientNorm()
    {
        parameters.ClearFrozenGradients();
        if (Scaler.IsOn) parameters.Scalars!.WriteLossScale((float)Scaler.Scale);
        return AdamWOp.GradientNorm(device, parameters, options.MaxGradNorm);
    }

    /// <summary>Leaves a step out whose gradients are not finite: they become zero, and the loss scale is halved.</summary>
    public void Skip(long step)
    {
        parameters.ZeroGradients();
        Scaler.Overflow(step);
    }

    /// <summary>One update with the gradients clipped from <paramref name="norm"/>; then they are zero and the packed weights are new.</summary>
    public void Step(double learningRate, double norm)
    {
        Updates++;
        double clip = options.MaxGradNorm > 0 ? Math.Min(1, options.MaxGradNorm / (norm + 1e-6)) : 1;
        AdamWSettings settings = new(learningRate, options.AdamBeta1, options.AdamBeta2, options.AdamEpsilon, options.WeightDecay, Updates);
        AdamWOp.Step(device, parameters, settings, (float)clip);
        Scaler.Good();
        parameters.ZeroGradients();
        parameters.Repack(device.Team);
    }
}
