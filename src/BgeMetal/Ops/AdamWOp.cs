using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The numbers of one AdamW update.</summary>
/// <param name="LearningRate">Step size.</param>
/// <param name="Beta1">Decay rate of the first moment.</param>
/// <param name="Beta2">Decay rate of the second moment.</param>
/// <param name="Epsilon">Added to the root of the second moment.</param>
/// <param name="WeightDecay">Decoupled decay of the decayed parameters.</param>
/// <param name="Update">t of the bias correction, from 1.</param>
internal readonly record struct AdamWSettings(double LearningRate, double Beta1, double Beta2, double Epsilon, double WeightDecay, int Update);

/// <summary>
/// AdamW (Loshchilov and Hutter 2019, algorithm 2) as PyTorch writes it: p *= 1 - lr wd; then p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
/// No tape: there is nothing to differentiate.
/// </summary>
internal static class AdamWOp
{
    /// <summary>The Euclidean norm of all gradients, added up in a fixed order in double precision (CPU).</summary>
    public static unsafe double GradientNorm(Device device, TrainableParameters parameters) =>
        Math.Sqrt(Kernels.Cpu.GlobalNorm.SumOfSquares(device.Team, parameters.Grad, parameters.Count));

    /// <summary>Updates every span that is not frozen with the gradients times <paramref name="gradientScale"/> (CPU).</summary>
    public static unsafe void Step(Device device, TrainableParameters parameters, AdamWSettings settings, float gradientScale)
    {
        double correction1 = 1 - Math.Pow(settings.Beta1, settings.Update), correction2 = 1 - Math.Pow(settings.Beta2, settings.Update);
        foreach (ParameterSpan span in parameters.Spans.Where(span => !span.Frozen))
            Kernels.Cpu.AdamW.Step(device.Team, parameters.Master, parameters.Grad, parameters.FirstMoment, parameters.SecondMoment, span.Start, span.Count,
                settings.LearningRate, settings.Beta1, settings.Beta2, settings.Epsilon, span.Decayed ? settings.WeightDecay : 0,
                correction1, correction2, gradientScale);
    }

    /// <summary>
    /// Enqueues the norm of the gradients without <paramref name="lossScale"/>, clipping to <paramref name="maxNorm"/> (0 for none) and the update, of the copy in the
    /// storage type too (CUDA). Gradients that are not finite change nothing. The norm is left on the device (<see cref="OptimizerScalars.ReadNorm"/>).
    /// </summary>
    public static unsafe void ClipAndStep(Device device, TrainableParameters parameters, AdamWSettings settings, double maxNorm, double lossScale)
    {
        OptimizerScalars scalars = parameters.Scalars!;
        double correction1 = 1 - Math.Pow(settings.Beta1, settings.Update), correction2 = 1 - Math.Pow(settings.Beta2, settings.Update);
        scalars.Write((float)settings.LearningRate, (float)(1 / correction1), (float)(1 / correction2), (float)lossScale);
        GlobalNorm.Compute(device.Kernels, new DevicePointer<FP32>((nint)parameters.Grad), parameters.Count, new DevicePointer<FP32>(scalars.LossScale), (float)maxNorm,
            new DevicePointer<FP32>(scalars.Norm), device.Workspace);
        device.Choose(Step<FP32>, Step<BF16>, Step<FP16>)(device, parameters, settings);
    }

    private static unsafe void Step<T>(Device device, TrainableParameters parameters, AdamWSettings settings) where T : unmanaged, IElement
    {
        OptimizerScalars scalars = parameters.Scalars!;
        AdamWState state = new(new((nint)parameters.Master), new((nint)parameters.Grad), new((nint)parameters.FirstMoment), new((nint)parameters.SecondMoment), parameters.Count,
            new(scalars.SpanEnds), new(scalars.SpanDecays), scalars.Spans);
        AdamWOptions options = new(settings.Beta1, settings.Beta2, settings.Epsilon, settings.WeightDecay);
        AdamW.Step(device.Kernels, state, options, new DevicePointer<FP32>(scalars.Schedule), new DevicePointer<FP32>(scalars.Norm), new DevicePointer<T>(parameters.ComputeCopy));
    }
}
