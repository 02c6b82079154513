using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Embedding, pooling and row normalisation against the oracle, on whatever device a derived class supplies.</summary>
public abstract class TokenOpTests(KernelDevice device)
{
    [Theory]
    [InlineData(1, 8)]
    [InlineData(7, 264)]
    [InlineData(5, 19)]
    public void Embeddings_are_gathered_and_summed(int tokens, int hidden)
    {
        RandomData data = new(tokens);
        int[] ids = data.Indices(tokens, 11), positions = data.Indices(tokens, 6), types = data.Indices(tokens, 2);
        using DeviceTensor<BF16> word = new(device, data.Integers(11 * hidden, 40), 11, hidden, 0), position = new(device, data.Integers(6 * hidden, 40), 6, hidden, 0),
            type = new(device, data.Integers(2 * hidden, 40), 2, hidden, 0), y = new(device, tokens, hidden);
        using DeviceMemory indices = Upload([.. ids, .. positions, .. types]);
        Embedding.Forward(device, indices.Slice<int>(0, tokens), indices.Slice<int>(4L * tokens, tokens), indices.Slice<int>(8L * tokens, tokens), tokens,
            word.Start, position.Start, type.Start, hidden, y.Matrix);
        y.AssertExactly(EmbeddingReference.Forward(ids, positions, types, word.ToDoubles(), position.ToDoubles(), type.ToDoubles(), hidden));
    }

    [Theory]
    [InlineData(1, 3, 8)]
    [InlineData(90, 40, 264)]
    [InlineData(300, 2, 9)]
    public void Embedding_gradients_are_scattered_exactly_whatever_repeats(int tokens, int entries, int hidden)
    {
        RandomData data = new(tokens);
        int[] ids = data.Indices(tokens, entries);
        EmbeddingGradientPlan plan = EmbeddingGradientPlan.Build(ids, entries);
        Assert.Equal(tokens == 300, plan.Partials > 0);
        using DeviceTensor<BF16> dy = new(device, data.Integers(tokens * hidden, 30), tokens, hidden);
        using DeviceTensor<FP32> table = new(device, data.Integers(entries * hidden, 30), entries, hidden, 0), work = new(device, Math.Max(plan.Partials, 1), hidden, 0);
        double[] before = table.ToDoubles();
        using DeviceMemory order = Upload([.. plan.All]);
        Embedding.Backward(device, dy.Matrix, plan.At(new(order.Address)), hidden, table.Start, new(work.Start, (long)plan.Partials * hidden));
        table.AssertExactly([.. EmbeddingReference.Backward(dy.ToDoubles(), ids, entries, hidden).Zip(before, (a, b) => a + b)]);
    }

    [Fact]
    public void A_renewed_plan_orders_rows_by_entry_and_place_and_leaves_one_entry_out()
    {
        RandomData data = new(3);
        int[] few = [.. data.Indices(700, 3)], many = [.. data.Indices(5000, 3000).Select(id => (id * 80_000L) % 250_002).Select(id => (int)id)];
        EmbeddingGradientPlan plan = new();
        foreach (int[] ids in (int[][])[many, few, [], [7], many])
        {
            plan.Renew(ids, 250_002, excluded: 1);
            Assert.Equal(Enumerable.Range(0, ids.Length).Where(row => ids[row] != 1).OrderBy(row => ids[row]).ThenBy(row => row), plan.Order.ToArray());
            Dictionary<int, int> summed = [];
            for (int piece = 0; piece < plan.Targets.Length; piece++)
            {
                int target = plan.Targets[piece], entry = ids[plan.Order[plan.Starts[piece]]], last = ids[plan.Order[plan.Starts[piece + 1] - 1]];
                Assert.Equal(entry, last);
                Assert.InRange(plan.Starts[piece + 1] - plan.Starts[piece], 1, EmbeddingGradientPlan.PieceRows);
                if (target >= 0) Assert.Equal(entry, target);
                else summed.Add(-1 - target, entry);
            }
            Assert.Equal(Enumerable.Range(0, plan.Partials), summed.Keys.Order());
            for (int merge = 0; merge < plan.MergeTargets.Length; merge++)
                for (int partial = plan.MergeStarts[merge]; partial < plan.MergeStarts[merge + 1]; partial++) Assert.Equal(plan.MergeTargets[merge], summed[partial]);
            Assert.Equal(plan.Partials, plan.MergeStarts[^1]);
            Assert.Equal(plan.Order.Length, plan.Starts[^1]);
        }
    }

    [Fact]
    public void An_entry_outside_the_table_is_refused_by_the_plan() =>
        Assert.Throws<ArgumentException>(() => EmbeddingGradientPlan.Build([0, 5], 5));

    [Theory]
    [InlineData(8)]
    [InlineData(264)]
    [InlineData(13)]
    public void Pooling_and_its_gradients_agree_with_the_oracle(int hidden)
    {
        int[] ends = [0, 1, 18, 18 + 9];
        RandomData data = new(hidden);
        using DeviceMemory cuSeqlens = Upload(ends);
        DevicePointer<int> lengths = cuSeqlens.Slice<int>(0, 4);
        using DeviceTensor<FP32> x = new(device, data.Uniform(27 * hidden), 27, hidden), y = new(device, 3, hidden), dy = new(device, data.Uniform(3 * hidden), 3, hidden),
            dx = new(device, 27, hidden);
        Pooling.Cls(device, x.Matrix, lengths, 3, hidden, y.Matrix);
        y.AssertExactly(PoolingReference.Cls(x.ToDoubles(), ends, hidden), "cls");
        Pooling.Mean(device, x.Matrix, lengths, 3, hidden, y.Matrix);
        y.AssertNear(PoolingReference.Mean(x.ToDoubles(), ends, hidden), what: "mean");
        Pooling.ClsBackward(device, dy.Matrix, lengths, 3, hidden, dx.Matrix);
        dx.AssertExactly(PoolingReference.ClsBackward(dy.ToDoubles(), ends, hidden), "cls gradient");
        Pooling.MeanBackward(device, dy.Matrix, lengths, 3, hidden, dx.Matrix);
        dx.AssertNear(PoolingReference.MeanBackward(dy.ToDoubles(), ends, hidden), what: "mean gradient");
    }

    [Fact]
    public void Low_precision_pooling_rounds_once()
    {
        int[] ends = [0, 5, 11];
        RandomData data = new(2);
        using DeviceMemory cuSeqlens = Upload(ends);
        using DeviceTensor<BF16> x = new(device, data.Uniform(11 * 16), 11, 16), y = new(device, 2, 16);
        Pooling.Mean(device, x.Matrix, cuSeqlens.Slice<int>(0, 3), 2, 16, y.Matrix);
        y.AssertNear(PoolingReference.Mean(x.ToDoubles(), ends, 16));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(5, 33)]
    [InlineData(3, 384)]
    public void Rows_are_normalised_and_their_gradients_agree_with_the_oracle(int rows, int columns)
    {
        RandomData data = new(rows);
        double[] values = data.Uniform(rows * columns);
        // A row shorter than the bound is divided by the bound.
        if (rows > 1) Array.Fill(values, 1e-20, 0, columns);
        using DeviceTensor<FP32> x = new(device, values, rows, columns), y = new(device, rows, columns), dy = new(device, data.Uniform(rows * columns), rows, columns),
            dx = new(device, rows, columns);
        NormalizeRows.Forward(device, x.Matrix, rows, columns, y.Matrix);
        y.AssertNear(NormalizeRowsReference.Forward(x.ToDoubles(), rows, columns), what: "y");
        NormalizeRows.Backward(device, dy.Matrix, x.Matrix, rows, columns, dx.Matrix);
        double[] expected = NormalizeRowsReference.Backward(dy.ToDoubles(), x.ToDoubles(), rows, columns);
        double[] actual = dx.ToDoubles();
        for (int r = 0; r < rows; r++)
        {
            double scale = expected.Skip(r * columns).Take(columns).Max(Math.Abs) + 1;
            for (int c = 0; c < columns; c++)
                Assert.True(Math.Abs(actual[(r * columns) + c] - expected[(r * columns) + c]) <= 4e-6 * scale, $"row {r}, column {c}");
        }
    }

    private DeviceMemory Upload(IReadOnlyList<int> values)
    {
        DeviceMemory memory = device.Allocate(4L * Math.Max(values.Count, 1));
        device.Upload<int>([.. values], new(memory.Address));
        return memory;
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedTokenOpTests(EmulationFixture fixture) : TokenOpTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuTokenOpTests(GpuFixture fixture) : TokenOpTests(fixture.DeviceOrSkip());
