using BgeMetal.Kernels.Cpu;
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
    /// <summary>The Euclidean norm of all gradients, added up in a fixed order in double precision.</summary>
    public static unsafe double GradientNorm(Device device, TrainableParameters parameters) =>
        Math.Sqrt(GlobalNorm.SumOfSquares(device.Team, parameters.Grad, parameters.Count));

    /// <summary>Updates every span with the gradients times <paramref name="gradientScale"/>.</summary>
    public static unsafe void Step(Device device, TrainableParameters parameters, AdamWSettings settings, float gradientScale)
    {
        double correction1 = 1 - Math.Pow(settings.Beta1, settings.Update), correction2 = 1 - Math.Pow(settings.Beta2, settings.Update);
        foreach (ParameterSpan span in parameters.Spans)
            AdamW.Step(device.Team, parameters.Master, parameters.Grad, parameters.FirstMoment, parameters.SecondMoment, span.Start, span.Count,
                settings.LearningRate, settings.Beta1, settings.Beta2, settings.Epsilon, span.Decayed ? settings.WeightDecay : 0,
                correction1, correction2, gradientScale);
    }
}
