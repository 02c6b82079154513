using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>The constants of AdamW. The kernel gets each beta and 1 - beta rounded to binary32 by itself: 1 - 0.999 formed in binary32 is off by 1.3e-5 of its value.</summary>
public readonly record struct AdamWOptions(double Beta1 = 0.9, double Beta2 = 0.999, double Epsilon = 1e-8, double WeightDecay = 0.01);

/// <summary>What AdamW works on: flat stores of one length, all 16-byte aligned.</summary>
/// <param name="Master">Parameters, binary32.</param>
/// <param name="Gradient">Gradients, binary32, as the backward pass left them (scaled).</param>
/// <param name="FirstMoment">Running mean of gradients.</param>
/// <param name="SecondMoment">Running mean of squared gradients.</param>
/// <param name="Count">Elements of each.</param>
/// <param name="SpanEnds">Where the parameter tensors end, ascending; the last end is the count. Multiples of 8, but for the last.</param>
/// <param name="SpanDecays">For each tensor 1 when it decays, 0 when it does not (biases, normalisations).</param>
/// <param name="Spans">The number of tensors.</param>
public readonly record struct AdamWState(DevicePointer<FP32> Master, DevicePointer<FP32> Gradient, DevicePointer<FP32> FirstMoment,
    DevicePointer<FP32> SecondMoment, long Count, DevicePointer<int> SpanEnds, DevicePointer<int> SpanDecays, int Spans);

/// <summary>
/// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2), one launch over all parameters. What changes from step to step
/// is read from the device, so that a captured graph can replay the launch. Moves 28 bytes an element, and 2 more for a low-precision copy.
/// </summary>
public static class AdamW
{
    /// <summary>Element of the schedule: the learning rate.</summary>
    public const int LearningRateIndex = 0;

    /// <summary>Element of the schedule: 1 / (1 - beta1^t) at step t = 1, 2, ...</summary>
    public const int FirstCorrectionIndex = 1;

    /// <summary>Element of the schedule: 1 / (1 - beta2^t).</summary>
    public const int SecondCorrectionIndex = 2;

    /// <summary>
    /// One step. <paramref name="schedule"/> holds three binary32, <paramref name="norm"/> is the result of <see cref="GlobalNorm"/>: its factor multiplies
    /// every gradient, and a step that it wants skipped changes nothing. The rounded parameters go to <paramref name="copy"/> unless that is null.
    /// </summary>
    public static void Step<T>(KernelDevice device, AdamWState state, AdamWOptions options, DevicePointer<FP32> schedule, DevicePointer<FP32> norm,
        DevicePointer<T> copy) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (((state.Master.Address | state.Gradient.Address | state.FirstMoment.Address | state.SecondMoment.Address | copy.Address) & 15) != 0)
            throw new ArgumentException("all stores must be 16-byte aligned", nameof(state));
        device.Launch(AdamWKernels.Step<T>, new GridSize(checked((int)((state.Count + 2047) / 2048))), new AdamWArguments<T>
        {
            Master = state.Master,
            Gradient = state.Gradient,
            First = state.FirstMoment,
            Second = state.SecondMoment,
            Schedule = schedule,
            Norm = norm,
            Copy = copy,
            SpanEnds = state.SpanEnds,
            SpanDecays = state.SpanDecays,
            Count = state.Count,
            Spans = state.Spans,
            Beta1 = (float)options.Beta1,
            Beta2 = (float)options.Beta2,
            FirstShare = (float)(1 - options.Beta1),
            SecondShare = (float)(1 - options.Beta2),
            Epsilon = (float)options.Epsilon,
            WeightDecay = (float)options.WeightDecay,
        });
    }
}

/// <summary>Arguments of the step.</summary>
internal struct AdamWArguments<T> where T : unmanaged, IElement
{
    /// <summary>The stores, and the device's scalars.</summary>
    public DevicePointer<FP32> Master, Gradient, First, Second, Schedule, Norm;

    /// <summary>The low-precision copy, or null.</summary>
    public DevicePointer<T> Copy;

    /// <summary>Tensors.</summary>
    public DevicePointer<int> SpanEnds, SpanDecays;

    /// <summary>Elements.</summary>
    public long Count;

    /// <summary>The number of tensors.</summary>
    public int Spans;

    /// <summary>Constants.</summary>
    public float Beta1, Beta2, FirstShare, SecondShare, Epsilon, WeightDecay;
}

/// <summary>Eight elements a thread; each looks its tensor up by bisection, in a list that stays in the first-level cache.</summary>
internal static class AdamWKernels
{
    [CudaKernel("AdamW", KernelDirection.Update, 256)]
    public static void Step<T>(AdamWArguments<T> arguments) where T : unmanaged, IElement
    {
        long index = ((long)Grid.IdxX * 256 + Group.IdxX) * 8;
        if (index >= arguments.Count || arguments.Norm.Load(GlobalNorm.SkipIndex) != 0) return;
        float rate = arguments.Schedule.Load(AdamW.LearningRateIndex), factor = arguments.Norm.Load(GlobalNorm.FactorIndex);
        float first = arguments.Schedule.Load(AdamW.FirstCorrectionIndex), second = arguments.Schedule.Load(AdamW.SecondCorrectionIndex);
        float keep = Decays(arguments, index) != 0 ? 1 - rate * arguments.WeightDecay : 1;
        if (index + 8 > arguments.Count)
        {
            for (long i = index; i < arguments.Count; i++)
            {
                float m = arguments.First.Load(i), v = arguments.Second.Load(i);
                float parameter = Update(arguments, arguments.Master.Load(i), arguments.Gradient.Load(i) * factor, ref m, ref v, rate, keep, first, second);
                arguments.First.Store(i, m);
                arguments.Second.Store(i, v);
                arguments.Master.Store(i, parameter);
                if (!arguments.Copy.IsNull) arguments.Copy.Store(i, parameter);
            }
            return;
        }
        Float8 g = arguments.Gradient.Load8(index) * factor, p = arguments.Master.Load8(index), ms = arguments.First.Load8(index), vs = arguments.Second.Load8(index);
        p.A = Update(arguments, p.A, g.A, ref ms.A, ref vs.A, rate, keep, first, second);
        p.B = Update(arguments, p.B, g.B, ref ms.B, ref vs.B, rate, keep, first, second);
        p.C = Update(arguments, p.C, g.C, ref ms.C, ref vs.C, rate, keep, first, second);
        p.D = Update(arguments, p.D, g.D, ref ms.D, ref vs.D, rate, keep, first, second);
        p.E = Update(arguments, p.E, g.E, ref ms.E, ref vs.E, rate, keep, first, second);
        p.F = Update(arguments, p.F, g.F, ref ms.F, ref vs.F, rate, keep, first, second);
        p.G = Update(arguments, p.G, g.G, ref ms.G, ref vs.G, rate, keep, first, second);
        p.H = Update(arguments, p.H, g.H, ref ms.H, ref vs.H, rate, keep, first, second);
        arguments.First.Store8(index, ms);
        arguments.Second.Store8(index, vs);
        arguments.Master.Store8(index, p);
        if (!arguments.Copy.IsNull) arguments.Copy.Store8(index, p);
    }

    private static float Update<T>(AdamWArguments<T> arguments, float parameter, float gradient, ref float m, ref float v, float rate, float keep,
        float firstCorrection, float secondCorrection) where T : unmanaged, IElement
    {
        m = arguments.Beta1 * m + arguments.FirstShare * gradient;
        v = arguments.Beta2 * v + arguments.SecondShare * (gradient * gradient);
        float denominator = DeviceMath.Sqrt(v * secondCorrection) + arguments.Epsilon;
        return parameter * keep - rate * (m * firstCorrection) * DeviceMath.Reciprocal(denominator);
    }

    private static int Decays<T>(AdamWArguments<T> arguments, long index) where T : unmanaged, IElement
    {
        int low = 0, high = arguments.Spans - 1;
        while (low < high)
        {
            int middle = (low + high) >> 1;
            if (arguments.SpanEnds.Load(middle) > index) high = middle;
            else low = middle + 1;
        }
        return arguments.SpanDecays.Load(low);
    }
}
