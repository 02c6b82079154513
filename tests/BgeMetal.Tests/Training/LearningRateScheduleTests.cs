using System.Text.Json;
using BgeMetal.Testing;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

public sealed class LearningRateScheduleTests
{
    private static double[] Factors(LearningRateShape shape, int steps, int warmup) =>
        [.. Enumerable.Range(0, steps + 2).Select(k => LearningRateSchedule.Create(shape, 1, steps, warmupSteps: warmup).Factor(k))];

    [Fact]
    public void Linear_rises_over_the_warm_up_and_falls_to_zero_after_the_last_step() =>
        Assert.Equal([0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0], Factors(LearningRateShape.Linear, 6, 2));

    [Fact]
    public void Linear_without_warm_up_starts_full() => Assert.Equal([1, 0.75, 0.5, 0.25, 0, 0], Factors(LearningRateShape.Linear, 4, 0));

    [Fact]
    public void Cosine_falls_along_half_a_period()
    {
        double root = Math.Sqrt(0.5);
        double[] expected = [0, 1, (1 + root) / 2, 0.5, (1 - root) / 2, 0];
        double[] factors = Factors(LearningRateShape.Cosine, 5, 1);
        for (int k = 0; k < expected.Length; k++) Assert.Equal(expected[k], factors[k], 1e-15);
    }

    [Fact]
    public void Constant_ignores_the_warm_up() => Assert.All(Factors(LearningRateShape.Constant, 4, 2), factor => Assert.Equal(1, factor));

    [Fact]
    public void Constant_with_warm_up_stays_full() => Assert.Equal([0, 0.25, 0.5, 0.75, 1, 1, 1], Factors(LearningRateShape.ConstantWithWarmup, 5, 4));

    [Theory]
    [InlineData(10, 0.1, 0, 1)]
    [InlineData(10, 0.11, 0, 2)]
    [InlineData(10, 0.0, 0, 0)]
    [InlineData(1000, 0.0001, 0, 1)]
    [InlineData(10, 0.5, 3, 3)]
    public void Warm_up_steps_are_rounded_up_unless_given(long steps, double ratio, long given, long expected) =>
        Assert.Equal(expected, LearningRateSchedule.Create(LearningRateShape.Linear, 1, steps, ratio, given).WarmupSteps);

    [Theory]
    [InlineData("trajectory", "ga1")]
    [InlineData("trajectory", "ga2")]
    [InlineData("retromae", "trajectory")]
    public void Rates_are_the_reference_trainers(string family, string name)
    {
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(SharedFolder.FixtureOrSkip(family, name, "inputs.json")));
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(SharedFolder.FixtureOrSkip(family, name, "expected.json")));
        JsonElement settings = inputs.RootElement.GetProperty("hyperparameters");
        double[] rates = [.. expected.RootElement.GetProperty("steps").EnumerateArray().Select(step => step.GetProperty("lr").GetDouble())];
        LearningRateSchedule schedule = LearningRateSchedule.Create(LearningRateSchedule.ParseShape(settings.GetProperty("lr_scheduler").GetString()!),
            settings.GetProperty("learning_rate").GetDouble(), settings.GetProperty("steps").GetInt64(), settings.GetProperty("warmup_ratio").GetDouble());
        Assert.Equal(settings.GetProperty("warmup_steps").GetInt64(), schedule.WarmupSteps);
        Assert.Equal(rates, Enumerable.Range(0, rates.Length).Select(k => schedule.At(k)));
    }

    [Fact]
    public void Unknown_shapes_are_refused() =>
        Assert.Contains("found \"polynomial\"", Assert.Throws<BgeMetalException>(() => LearningRateSchedule.ParseShape("polynomial")).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(10, 1, 5.0, 0, 50)]
    [InlineData(10, 4, 1.0, 0, 2)]
    [InlineData(10, 4, 2.5, 0, 5)]
    [InlineData(10, 4, 0.3, 0, 1)]
    [InlineData(3, 8, 4.0, 0, 4)]
    [InlineData(10, 4, 1.0, 77, 77)]
    public void Steps_are_counted_as_the_reference_trainer_counts(int batches, int accumulation, double epochs, long maxSteps, long expected) =>
        Assert.Equal(expected, StepPlan.Create(batches, accumulation, epochs, maxSteps).TotalSteps);

    [Fact]
    public void Steps_take_batches_one_after_another_across_epochs()
    {
        StepPlan plan = StepPlan.Create(batchesPerEpoch: 5, accumulation: 2, epochs: 2);
        Assert.Equal((4, 8, 2), (plan.TotalSteps, plan.TotalBatches, plan.StepsPerEpoch));
        Assert.Equal([0L, 2, 4, 6], Enumerable.Range(0, 4).Select(k => plan.FirstBatch(k)));
        Assert.Equal((0, 4), plan.Position(4));
        Assert.Equal((1, 0), plan.Position(5));
        Assert.Equal(1.2, plan.EpochAt(3), 1e-12);
    }

    [Fact]
    public void An_epoch_shorter_than_the_accumulation_is_one_step()
    {
        StepPlan plan = StepPlan.Create(batchesPerEpoch: 3, accumulation: 8, epochs: 4);
        Assert.Equal((3, 8, 12L), (plan.BatchesPerStep, plan.Accumulation, plan.TotalBatches));
    }
}
