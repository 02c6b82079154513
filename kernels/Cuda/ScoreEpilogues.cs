using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// A score becomes its gradient: (softmax - one at the right column) * <see cref="Unit"/>, in the element type. The unit, a power of two, keeps small
/// probabilities of fp16 away from its subnormal numbers; whoever multiplies with the weights takes it out again.
/// </summary>
internal readonly struct ContrastiveWeights<T>(DeviceMatrix<T> output, DevicePointer<FP32> logSumExp, ScoreTargets targets, float scale) : IEpilogue
    where T : unmanaged, IElement
{
    /// <summary>What a probability of 1 is stored as.</summary>
    public const float Unit = 16384;

    public readonly DeviceMatrix<T> Output = output;
    public readonly DevicePointer<FP32> LogSumExp = logSumExp;
    public readonly ScoreTargets Targets = targets;
    public readonly float Scale = scale;
    public readonly int Aligned = output.IsAligned ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split)
    {
        float weight = Probability(value, LogSumExp.Load(row) * DeviceMath.Log2E);
        Output.Store(row, column, (weight - One(Targets.Of(row) - Targets.First, column)) * Unit);
    }

    public void Write8(Float8 value, int row, int column, int split)
    {
        float log = LogSumExp.Load(row) * DeviceMath.Log2E;
        int target = Targets.Of(row) - Targets.First;
        Float8 weight = new()
        {
            A = Probability(value.A, log) - One(target, column),
            B = Probability(value.B, log) - One(target, column + 1),
            C = Probability(value.C, log) - One(target, column + 2),
            D = Probability(value.D, log) - One(target, column + 3),
            E = Probability(value.E, log) - One(target, column + 4),
            F = Probability(value.F, log) - One(target, column + 5),
            G = Probability(value.G, log) - One(target, column + 6),
            H = Probability(value.H, log) - One(target, column + 7),
        };
        Output.Store8(row, column, weight * Unit);
    }

    // A row that does not count has +infinity for its logarithm: all its probabilities are zero.
    private float Probability(float score, float log) => DeviceMath.Exp2(DeviceMath.Fma(score, Scale, -log));

    private static float One(int target, int column) => target == column ? 1f : 0f;
}

/// <summary>y = value * scale, or y += value * scale.</summary>
internal readonly struct ScaledOutput<T>(DeviceMatrix<T> output, DeviceScalar scale, bool accumulate) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output;
    public readonly DeviceScalar Scale = scale;
    public readonly int Accumulate = accumulate ? 1 : 0, Aligned = output.IsAligned ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split)
    {
        value *= Scale.Load();
        Output.Store(row, column, Accumulate != 0 ? value + Output.Load(row, column) : value);
    }

    public void Write8(Float8 value, int row, int column, int split)
    {
        value *= Scale.Load();
        Output.Store8(row, column, Accumulate != 0 ? value + Output.Load8(row, column) : value);
    }
}
