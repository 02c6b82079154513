using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>The course of the loss scale, as PyTorch's GradScaler takes it.</summary>
public sealed class LossScalerTests
{
    [Fact]
    public void It_doubles_after_2000_updates_in_a_row_and_halves_at_each_overflow()
    {
        LossScaler scaler = new();
        Assert.Equal(65536, scaler.Scale);
        scaler.Update(skipped: true);
        Assert.Equal((32768.0, 0), (scaler.Scale, scaler.GoodSteps));
        for (int step = 0; step < 1999; step++) scaler.Update(skipped: false);
        Assert.Equal((32768.0, 1999), (scaler.Scale, scaler.GoodSteps));
        scaler.Update(skipped: true);
        Assert.Equal((16384.0, 0), (scaler.Scale, scaler.GoodSteps));
        for (int step = 0; step < 2000; step++) scaler.Update(skipped: false);
        Assert.Equal((32768.0, 0), (scaler.Scale, scaler.GoodSteps));
    }

    [Fact]
    public void It_never_grows_beyond_the_finite_and_says_when_halving_has_ended()
    {
        LossScaler scaler = new();
        scaler.Restore(Math.ScaleB(1, 127), 1999);
        scaler.Update(skipped: false);
        Assert.Equal((Math.ScaleB(1, 127), 0), (scaler.Scale, scaler.GoodSteps));
        scaler.Restore(65536, 0);
        for (int step = 0; step < 32; step++)
        {
            Assert.False(scaler.IsExhausted);
            scaler.Update(skipped: true);
        }
        scaler.Update(skipped: true);
        Assert.True(scaler.IsExhausted);
    }
}
