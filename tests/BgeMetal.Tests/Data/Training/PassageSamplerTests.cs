using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Data.Training;

public sealed class PassageSamplerTests
{
    private static int[] Draw(int epoch, int row, int negatives, int groupSize, int seed = 1)
    {
        int[] chosen = new int[groupSize - 1];
        new PassageSampler(seed).Draw(epoch, row, 1, negatives, chosen);
        return chosen;
    }

    [Fact]
    public void Enough_negatives_are_drawn_without_repetition()
    {
        for (int row = 0; row < 300; row++) Assert.Distinct(Draw(0, row, 9, 8));
    }

    [Fact]
    public void Exactly_enough_negatives_stay_in_order()
    {
        for (int row = 0; row < 50; row++) Assert.Equal([0, 1, 2, 3], Draw(0, row, 4, 5));
    }

    [Theory]
    [InlineData(1, 8, 7)]
    [InlineData(3, 8, 3)]
    [InlineData(5, 8, 2)]
    [InlineData(2, 4, 2)]
    public void Too_few_negatives_are_repeated_no_more_often_than_needed(int negatives, int groupSize, int copies)
    {
        bool different = false;
        for (int row = 0; row < 200; row++)
        {
            int[] counts = new int[negatives];
            foreach (int chosen in Draw(0, row, negatives, groupSize)) counts[chosen]++;
            Assert.Equal(groupSize - 1, counts.Sum());
            Assert.All(counts, count => Assert.InRange(count, 0, copies));
            different |= counts.Distinct().Count() > 1;
        }

        Assert.Equal((groupSize - 1) % negatives != 0, different);
    }

    [Fact]
    public void Positives_and_negatives_are_uniform()
    {
        int[] positives = new int[5], negatives = new int[10], pairs = new int[10];
        int[] chosen = new int[2];
        for (int row = 0; row < 10_000; row++)
        {
            positives[new PassageSampler(3).Draw(2, row, 5, 10, chosen)]++;
            negatives[chosen[0]]++;
            pairs[chosen[1]]++;
        }

        Assert.All(positives, count => Assert.InRange(count, 1850, 2150));
        Assert.All(negatives, count => Assert.InRange(count, 890, 1110));
        Assert.All(pairs, count => Assert.InRange(count, 890, 1110));
    }

    [Fact]
    public void Draws_depend_on_seed_epoch_and_row_only()
    {
        Assert.Equal(Draw(3, 4, 100, 20), Draw(3, 4, 100, 20));
        Assert.NotEqual(Draw(3, 4, 100, 20), Draw(4, 3, 100, 20));
        Assert.NotEqual(Draw(3, 4, 100, 20), Draw(3, 4, 100, 20, seed: 2));
    }

    [Fact]
    public void A_group_of_one_needs_no_negative() => Assert.Empty(Draw(0, 0, 0, 1));
}
