namespace BgeMetal.Training;

/// <summary>The shapes of a learning rate over a run, with the names of Hugging Face's Trainer.</summary>
public enum LearningRateShape
{
    /// <summary><c>linear</c>: up to the full rate over the warm-up, then down to 0 at the end.</summary>
    Linear,

    /// <summary><c>cosine</c>: up over the warm-up, then down to 0 along half a cosine.</summary>
    Cosine,

    /// <summary><c>constant</c>: the full rate throughout; no warm-up.</summary>
    Constant,

    /// <summary><c>constant_with_warmup</c>: up over the warm-up, then the full rate.</summary>
    ConstantWithWarmup,
}

/// <summary>
/// The learning rate of each optimiser step, in double precision and exactly as transformers' <c>get_scheduler</c> has it: step 0 of a warm-up has rate 0, and the
/// last step of the linear decay has 1 / (steps - warm-up) of the full rate, not 0.
/// </summary>
/// <param name="Shape">The shape.</param>
/// <param name="BaseRate">The full rate.</param>
/// <param name="TotalSteps">Optimiser steps of the run.</param>
/// <param name="WarmupSteps">Steps of the warm-up.</param>
internal sealed record LearningRateSchedule(LearningRateShape Shape, double BaseRate, long TotalSteps, long WarmupSteps)
{
    /// <summary>Makes a schedule.</summary>
    /// <param name="shape">The shape.</param>
    /// <param name="baseRate">The full rate.</param>
    /// <param name="totalSteps">Optimiser steps of the run.</param>
    /// <param name="warmupRatio">The warm-up's share of the run; steps are rounded up. Ignored if <paramref name="warmupSteps"/> is above 0.</param>
    /// <param name="warmupSteps">The warm-up in steps; 0 to use the ratio.</param>
    public static LearningRateSchedule Create(LearningRateShape shape, double baseRate, long totalSteps, double warmupRatio = 0, long warmupSteps = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(totalSteps);
        ArgumentOutOfRangeException.ThrowIfNegative(warmupSteps);
        if (!(warmupRatio is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(warmupRatio), warmupRatio, "a share between 0 and 1 was expected");
        return new LearningRateSchedule(shape, baseRate, totalSteps, warmupSteps > 0 ? warmupSteps : (long)Math.Ceiling(totalSteps * warmupRatio));
    }

    /// <summary>The shape of a name (<c>linear</c>, <c>cosine</c>, <c>constant</c>, <c>constant_with_warmup</c>).</summary>
    /// <exception cref="BgeMetalException">There is no such shape.</exception>
    public static LearningRateShape ParseShape(string name) => name switch
    {
        "linear" => LearningRateShape.Linear,
        "cosine" => LearningRateShape.Cosine,
        "constant" => LearningRateShape.Constant,
        "constant_with_warmup" => LearningRateShape.ConstantWithWarmup,
        _ => throw new BgeMetalException("learning rate schedule", $"linear, cosine, constant or constant_with_warmup was expected, found \"{name}\""),
    };

    /// <summary>The rate of a step, counted from 0.</summary>
    public double At(long step) => BaseRate * Factor(step);

    /// <summary>The share of the full rate in a step, counted from 0.</summary>
    public double Factor(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        if (Shape == LearningRateShape.Constant) return 1;
        if (step < WarmupSteps) return (double)step / Math.Max(1, WarmupSteps);
        double decaySteps = Math.Max(1, TotalSteps - WarmupSteps);
        return Shape switch
        {
            LearningRateShape.Linear => Math.Max(0, (TotalSteps - step) / decaySteps),
            LearningRateShape.Cosine => Math.Max(0, 0.5 * (1 + Math.Cos(Math.PI * ((step - WarmupSteps) / decaySteps)))),
            _ => 1,
        };
    }
}
