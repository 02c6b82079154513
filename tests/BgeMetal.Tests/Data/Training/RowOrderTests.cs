using BgeMetal.Data.Training;
using BgeMetal.Tensors;

namespace BgeMetal.Tests.Data.Training;

public sealed class RowOrderTests
{
    private static readonly RowGroup[] s_groups =
    [
        new([(0, 10)], 4, false),
        new([(10, 3), (20, 2)], 2, true),
        new([(13, 7)], 8, false),
    ];

    private static int[][] Epoch(RowOrder order, int epoch) => [.. Enumerable.Range(0, order.BatchesPerEpoch).Select(b => order.Batch(epoch, b).Rows.ToArray())];

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_row_is_in_one_batch_of_an_epoch(bool shuffle)
    {
        RowOrder order = new(s_groups, 7, shuffle, dropLast: false);
        Assert.Equal(3 + 3 + 1, order.BatchesPerEpoch);
        Assert.Equal(22, order.RowsPerEpoch);
        for (int epoch = 0; epoch < 20; epoch++) Assert.Equal(Enumerable.Range(0, 22), Epoch(order, epoch).SelectMany(rows => rows).Order());
    }

    [Fact]
    public void Dropping_leaves_full_batches_only()
    {
        RowOrder order = new(s_groups, 7, shuffle: true, dropLast: true);
        Assert.Equal(2 + 2 + 0, order.BatchesPerEpoch);
        Assert.Equal(12, order.RowsPerEpoch);
        for (int b = 0; b < 4; b++)
        {
            (ReadOnlyMemory<int> rows, RowGroup group) = order.Batch(3, b);
            Assert.Equal(group.BatchSize, rows.Length);
        }

        Assert.Equal(0, new RowOrder([new RowGroup([(0, 3)], 4, false)], 7, true, dropLast: true).BatchesPerEpoch);
    }

    [Fact]
    public void Batches_never_mix_groups_and_their_order_is_mixed()
    {
        RowOrder order = new(s_groups, 7, shuffle: true, dropLast: false);
        List<int> sequence = [];
        for (int b = 0; b < order.BatchesPerEpoch; b++)
        {
            (ReadOnlyMemory<int> rows, RowGroup group) = order.Batch(0, b);
            Assert.All(rows.ToArray(), row => Assert.Contains(group.Ranges, range => row >= range.First && row < range.First + range.Count));
            sequence.Add(Array.IndexOf(s_groups, group));
        }

        Assert.NotEqual(sequence.Order(), sequence);
    }

    [Fact]
    public void Without_shuffling_rows_stay_in_the_order_of_the_files_in_every_epoch()
    {
        RowOrder order = new(s_groups, 7, shuffle: false, dropLast: false);
        int[] expected = [.. Enumerable.Range(0, 13), 20, 21, .. Enumerable.Range(13, 7)];
        Assert.Equal(expected, Epoch(order, 0).SelectMany(rows => rows));
        Assert.Equal(expected, Epoch(order, 9).SelectMany(rows => rows));
    }

    [Fact]
    public void Seeds_and_epochs_give_other_orders_and_the_same_ones_give_the_same()
    {
        RowGroup[] group = [new([(0, 1000)], 10, false)];
        int[] first = [.. Epoch(new RowOrder(group, 1, true, false), 0).SelectMany(rows => rows)];
        Assert.Equal(first, Epoch(new RowOrder(group, 1, true, false), 0).SelectMany(rows => rows));
        Assert.NotEqual(first, Epoch(new RowOrder(group, 2, true, false), 0).SelectMany(rows => rows));
        RowOrder order = new(group, 1, true, false);
        Assert.NotEqual(first, Epoch(order, 1).SelectMany(rows => rows));
        Assert.NotEqual(first, Epoch(order, 5).SelectMany(rows => rows));
        Assert.Equal(first, Epoch(order, 0).SelectMany(rows => rows));
    }

    [Fact]
    public void Every_row_is_equally_often_first()
    {
        int[] first = new int[8];
        RowOrder order = new([new RowGroup([(0, 8)], 8, false)], 11, true, false);
        for (int epoch = 0; epoch < 8000; epoch++) first[order.Batch(epoch, 0).Rows.Span[0]]++;
        Assert.All(first, count => Assert.InRange(count, 850, 1150));
    }

    [Fact]
    public void Bounded_draws_are_uniform_and_keys_independent()
    {
        int[] counts = new int[7];
        for (int key = 0; key < 7000; key++) counts[new CounterRandom(5, key).Below(7)]++;
        Assert.All(counts, count => Assert.InRange(count, 860, 1140));
        CounterRandom random = new(1, 2, 3);
        int[] large = [.. Enumerable.Range(0, 3000).Select(_ => random.Below(int.MaxValue) / (int.MaxValue / 3 + 1))];
        Assert.All(large.CountBy(part => part), part => Assert.InRange(part.Value, 850, 1150));
        double mean = Enumerable.Range(0, 10000).Average(_ => random.Uniform());
        Assert.InRange(mean, 0.48, 0.52);
        Assert.Distinct(from a in Enumerable.Range(0, 30) from b in Enumerable.Range(0, 30) select new CounterRandom(a, b).Next());
    }

    [Fact]
    public void The_generator_gives_the_published_SplitMix64_sequence()
    {
        CounterRandom random = default;
        Assert.Equal(0xE220A8397B1DCDAFUL, random.Next());
        Assert.Equal(0x6E789E6AA1B965F4UL, random.Next());
        Assert.Equal(0x06C45D188009454FUL, random.Next());
    }
}
