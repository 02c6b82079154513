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

/// <summary>An update's numbers on a GPU, at addresses that stay, so that a captured graph can replay it.</summary>
/// <param name="Schedule">[1, 3]: learning rate and the two bias corrections, written before the update.</param>
/// <param name="LossScale">[1, 1]: what the gradients are scaled with.</param>
/// <param name="Result">[1, 3]: norm, the gradients' factor, whether the update was left out.</param>
internal readonly record struct UpdateScalars(Tensor Schedule, Tensor LossScale, Tensor Result)
{
    /// <summary>Element of the result: the norm of the gradients, without their scale.</summary>
    public const int NormElement = GlobalNorm.NormIndex;

    /// <summary>Element of the result: 1 where a gradient was not finite and nothing was changed, else 0.</summary>
    public const int SkippedElement = GlobalNorm.SkipIndex;
}

/// <summary>
/// AdamW (Loshchilov and Hutter 2019, algorithm 2) as PyTorch writes it: p *= 1 - lr wd; then p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
/// No tape: there is nothing to differentiate.
/// </summary>
internal static class AdamWOp
{
    /// <summary>The Euclidean norm of all gradients, added up in a fixed order in double precision (CPU).</summary>
    public static unsafe double GradientNorm(Device device, TrainableParameters parameters) =>
        Math.Sqrt(Kernels.Cpu.GlobalNorm.SumOfSquares(device.Team, parameters.Grad, parameters.Count));

    /// <summary>Updates every span with the gradients times <paramref name="gradientScale"/> (CPU).</summary>
    public static unsafe void Step(Device device, TrainableParameters parameters, AdamWSettings settings, float gradientScale)
    {
        double correction1 = 1 - Math.Pow(settings.Beta1, settings.Update), correction2 = 1 - Math.Pow(settings.Beta2, settings.Update);
        foreach (ParameterSpan span in parameters.Spans)
            Kernels.Cpu.AdamW.Step(device.Team, parameters.Master, parameters.Grad, parameters.FirstMoment, parameters.SecondMoment, span.Start, span.Count,
                settings.LearningRate, settings.Beta1, settings.Beta2, settings.Epsilon, span.Decayed ? settings.WeightDecay : 0,
                correction1, correction2, gradientScale);
    }

    /// <summary>
    /// Enqueues norm, clipping to <paramref name="maxNorm"/> (0 for none), the update of every span and of the low-precision copy (CUDA). Gradients that are
    /// not finite leave everything as it is. Spans that follow each other take one launch.
    /// </summary>
    public static void ClipAndStep(Device device, TrainableParameters parameters, AdamWSettings settings, double maxNorm, UpdateScalars scalars)
    {
        Span<float> schedule =
        [
            (float)settings.LearningRate, (float)(1 / (1 - Math.Pow(settings.Beta1, settings.Update))), (float)(1 / (1 - Math.Pow(settings.Beta2, settings.Update))),
        ];
        device.Write<float>(schedule, scalars.Schedule.Address);
        GlobalNorm.Compute(device.Kernels, Flat(parameters, FlatBuffer.Gradient), parameters.Count, scalars.LossScale.Pointer<FP32>(), (float)maxNorm,
            scalars.Result.Pointer<FP32>(), device.Workspace);
        foreach (ParameterRun run in parameters.Runs)
            device.Choose(Step<FP32>, Step<BF16>, Step<FP16>)(device, parameters, settings, run, scalars);
    }

    private static void Step<T>(Device device, TrainableParameters parameters, AdamWSettings settings, ParameterRun run, UpdateScalars scalars) where T : unmanaged, IElement
    {
        AdamWState state = new(Flat(parameters, FlatBuffer.Master, run.Start), Flat(parameters, FlatBuffer.Gradient, run.Start),
            Flat(parameters, FlatBuffer.FirstMoment, run.Start), Flat(parameters, FlatBuffer.SecondMoment, run.Start), run.Count,
            run.SpanEnds.Pointer<int>(), run.SpanDecays.Pointer<int>(), run.SpanEnds.Columns);
        AdamWOptions constants = new((float)settings.Beta1, (float)settings.Beta2, (float)settings.Epsilon, (float)settings.WeightDecay);
        AdamW.Step(device.Kernels, state, constants, scalars.Schedule.Pointer<FP32>(), scalars.Result.Pointer<FP32>(), new DevicePointer<T>(parameters.AddressOfCopy(run.Start)));
    }

    private static DevicePointer<FP32> Flat(TrainableParameters parameters, FlatBuffer buffer, long start = 0) => new(parameters.AddressOf(buffer, start));
}
