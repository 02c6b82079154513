using System.Globalization;

namespace BgeMetal.Training;

/// <summary>
/// Dynamic loss scaling of fp16 (Micikevicius et al. 2018, "Mixed precision training", section 3.2) with the defaults of PyTorch's GradScaler: from 65536, halved by
/// a step whose gradients are not finite, which changes no weight, and doubled after 2000 good steps in a row.
/// </summary>
internal sealed class LossScaler(bool isOn)
{
    private const double First = 65536, Least = 1d / (1 << 24);
    private const int GrowthInterval = 2000;

    /// <summary>Whether losses are scaled at all.</summary>
    public bool IsOn => isOn;

    /// <summary>What losses are multiplied with.</summary>
    public double Scale { get; private set; } = isOn ? First : 1;

    /// <summary>Good steps since the scale last changed.</summary>
    public int GoodSteps { get; private set; }

    /// <summary>Takes up the state of a checkpoint.</summary>
    public void Restore(double scale, int goodSteps)
    {
        if (isOn) (Scale, GoodSteps) = (scale, goodSteps);
    }

    /// <summary>After a step whose gradients were finite.</summary>
    public void Good()
    {
        if (!isOn || ++GoodSteps < GrowthInterval) return;
        Scale *= 2;
        GoodSteps = 0;
    }

    /// <summary>After a step whose gradients were not.</summary>
    /// <exception cref="BgeMetalException">There is no scale at which they are finite.</exception>
    public void Overflow(long step)
    {
        Scale /= 2;
        GoodSteps = 0;
        if (Scale < Least)
            throw new BgeMetalException($"training stopped at step {step + 1}", string.Create(CultureInfo.InvariantCulture,
                $"gradients are not finite in fp16 at any loss scale down to {Scale:g3}; use --bf16 or --dtype fp32"));
    }
}
