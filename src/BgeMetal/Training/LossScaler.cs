namespace BgeMetal.Training;

/// <summary>
/// The factor that keeps small gradients from vanishing in binary16 (Micikevicius et al. 2018, section 3.2), adapted as PyTorch's GradScaler does by default: from
/// 65536, doubled after 2000 updates in a row, halved after each step whose gradients were not finite. The device leaves such a step's update out by itself.
/// Powers of 2 throughout, so scaling is exact and a resumed run goes on bit for bit.
/// </summary>
internal sealed class LossScaler
{
    private const double First = 65536, Growth = 2, Backoff = 0.5, Least = 1.0 / 65536;
    private const int GrowthInterval = 2000;

    /// <summary>The factor of the next step.</summary>
    public double Scale { get; private set; } = First;

    /// <summary>Updates since the factor last changed.</summary>
    public int GoodSteps { get; private set; }

    /// <summary>Whether halving has ended: gradients that are not finite at this factor are not the factor's fault.</summary>
    public bool IsExhausted => Scale < Least;

    /// <summary>Goes on from a checkpoint's numbers.</summary>
    public void Restore(double scale, int goodSteps) => (Scale, GoodSteps) = (scale, goodSteps);

    /// <summary>After a step; <paramref name="skipped"/> says that its gradients were not finite.</summary>
    public void Update(bool skipped)
    {
        if (skipped)
        {
            (Scale, GoodSteps) = (Scale * Backoff, 0);
        }
        else if (++GoodSteps == GrowthInterval)
        {
            GoodSteps = 0;
            if (float.IsFinite((float)(Scale * Growth))) Scale *= Growth;
        }
    }
}
