using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Exact search against sorting all scores, on whatever device a derived class supplies. Vectors are small integers: scores are exact in every type, and most of
/// them are ties.
/// </summary>
public abstract class TopKTests(KernelDevice device)
{
    /// <summary>Queries, dim, rows, neighbours: one of everything, fewer rows than neighbours, strips and tiles and their neighbours.</summary>
    public static TheoryData<int, int, int, int> Shapes => new() { { 1, 8, 1, 1 }, { 1, 8, 33, 40 }, { 3, 16, 65, 7 }, { 7, 24, 127, 10 }, { 2, 7, 129, 33 }, { 17, 8, 5, 2 } };

    [Theory, MemberData(nameof(Shapes))]
    public void Bf16_neighbours_are_those_of_a_sort(int queries, int dim, int rows, int neighbours) => Finds<BF16>(queries, dim, rows, neighbours, [rows]);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp32_neighbours_are_those_of_a_sort(int queries, int dim, int rows, int neighbours) => Finds<FP32>(queries, dim, rows, neighbours, [rows]);

    [Fact]
    public void Fp16_neighbours_are_those_of_a_sort() => Finds<FP16>(2, 8, 70, 5, [70]);

    [Fact]
    public void The_large_tile_keeps_the_strips_that_reach_the_threshold()
    {
        (int queries, int dim, int rows, int strips) = (2, 8, 150, 3);
        RandomData data = new(9);
        using DeviceTensor<BF16> q = new(device, data.Integers(queries * dim, 2), queries, dim), c = new(device, data.Integers(rows * dim, 2), rows, dim);
        using DeviceTensor<FP32> scores = new(device, queries, 256, padding: 0), largest = new(device, queries, strips, padding: 0);
        float[] all = [.. LinearReference.Forward(q.ToDoubles(), c.ToDoubles(), null, queries, dim, rows).Select(v => (float)v)];
        float[] most = [.. Enumerable.Range(0, queries * strips).Select(i => all[((i / strips * rows) + (i % strips * 64))..((i / strips * rows) + Math.Min(rows, (i % strips * 64) + 64))].Max())];
        float threshold = most[strips..].Max();
        using DeviceMemory thresholds = device.Allocate(queries * 4L);
        device.Upload<uint>([0, TopKKey.Rank(threshold)], new(thresholds.Address));
        GemmPlan plan = GemmPlan.Choose<BF16, Nt>(device, queries, rows, dim, q.Matrix, c.Matrix, default);
        device.Launch(TopKKernels.Score<BF16, Tile128, Accumulator128>, new GridSize(1, 2),
            plan.Arguments(new TopKTiles { Scores = scores.Matrix, Largest = largest.Start, Thresholds = new(thresholds.Address), Strips = strips }));
        Assert.Equal(most, largest.ToArray());
        float[] kept = scores.ToArray();
        for (int query = 0; query < queries; query++)
            for (int row = 0; row < rows; row++)
                if (query == 0 || most[strips + (row / 64)] >= threshold) Assert.Equal(all[(query * rows) + row], kept[(query * 256) + row]);
                else Assert.True(float.IsNaN(kept[(query * 256) + row]), $"the strip of query {query}, row {row} was not wanted");
    }

    [Theory]
    [InlineData(1, 36)]
    [InlineData(9, 132)]
    public void Few_binary32_queries_get_the_scores_of_the_matrix_tile_bit_for_bit(int queries, int dim)
    {
        (int rows, int neighbours) = (131, 5);
        RandomData data = new(dim);
        using DeviceTensor<FP32> q = new(device, data.Uniform(queries * dim), queries, dim, 4), c = new(device, data.Uniform(rows * dim), rows, dim, 4),
            work = new(device, 1, 1 << 18, padding: 0), tile = new(device, queries, rows, padding: 0), scores = new(device, queries, neighbours, padding: 0);
        TopKShape shape = new(queries, dim, neighbours);
        using DeviceMemory state = device.Allocate(TopK.StateLength(shape) * 8), found = device.Allocate(queries * neighbours * 8L);
        TopK.Begin(device, shape, new(state.Address));
        TopK.Add(device, shape, q.Matrix, c.Matrix, rows, 0, new(state.Address), new(work.Start, 1 << 18));
        TopK.Finish(device, shape, new(state.Address), new(found.Address), scores.Start);
        GemmPlan.Choose<FP32, Nt>(device, queries, rows, dim, q.Matrix, c.Matrix, default).Run<FP32, Nt, Partial>(new(tile.Start, queries, rows));
        float[] all = tile.ToArray(), best = scores.ToArray();
        for (int query = 0; query < queries; query++)
            Tolerance.AssertBitEqual(best.AsSpan(query * neighbours, neighbours), TopKReference.Select(all[(query * rows)..((query + 1) * rows)], neighbours).Scores);
    }

    [Fact]
    public void Blocks_in_any_order_give_the_same_result() => Finds<BF16>(3, 8, 330, 9, [100, 1, 64, 165], backwards: true);

    [Fact]
    public void The_smallest_workspace_takes_the_corpus_in_pieces() => Finds<FP32>(2, 8, 300, 6, [300], workspace: TopK.MinimumWorkspace(new(2, 8, 6)));

    [Fact]
    public void The_most_neighbours_overflow_what_is_sorted_at_once_and_come_out_right() => Finds<BF16>(1, 8, 2300, TopK.MaximumNeighbours, [2300]);

    [Fact]
    public void Scores_that_are_not_numbers_come_last()
    {
        double[] corpus = new RandomData(5).Integers(40 * 8, 2);
        foreach (int row in (int[])[0, 3, 17]) corpus[row * 8] = double.NaN;
        corpus[(5 * 8) + 1] = double.NegativeInfinity;
        Finds<FP32>(1, 8, 40, 40, [40], corpus: corpus, query: _ => 1);
        Finds<FP32>(1, 8, 40, 4, [3, 37], corpus: corpus, query: _ => 1);
    }

    [Fact]
    public void Rows_that_get_better_and_better_are_all_seen()
    {
        double[] corpus = [.. Enumerable.Range(0, 200).SelectMany(row => Enumerable.Repeat((double)row, 8))];
        Finds<FP32>(1, 8, 200, 3, [128, 72], corpus: corpus, query: _ => 1);
    }

    [Fact]
    public void More_neighbours_than_fit_are_refused() =>
        Assert.Throws<ArgumentException>(() => TopK.Begin(device, new(1, 8, TopK.MaximumNeighbours + 1), default));

    [Fact]
    public void A_workspace_that_is_too_small_is_refused() =>
        Assert.Throws<ArgumentException>(() => TopK.Add<BF16>(device, new(2, 8, 3), default, default, 5, 0, default, new(default, 2 * 130 - 1)));

    private void Finds<T>(int queries, int dim, int rows, int neighbours, int[] blocks, bool backwards = false, long workspace = 1 << 18,
        double[]? corpus = null, Func<int, double>? query = null) where T : unmanaged, IElement
    {
        RandomData data = new(queries + rows);
        int padding = dim % 8 == 0 ? 8 : 3;
        double[] vectors = data.Integers(queries * dim, 2);
        if (query is not null) vectors = [.. vectors.Select((_, i) => query(i))];
        using DeviceTensor<T> q = new(device, vectors, queries, dim, padding), c = new(device, corpus ?? data.Integers(rows * dim, 2), rows, dim, padding);
        using DeviceTensor<FP32> work = new(device, 1, (int)workspace, padding: 0), scores = new(device, queries, neighbours, padding: 0);
        TopKShape shape = new(queries, dim, neighbours);
        using DeviceMemory state = device.Allocate(TopK.StateLength(shape) * 8), found = device.Allocate(queries * neighbours * 8L);
        DevicePointer<long> results = new(state.Address);
        TopK.Begin(device, shape, results);
        int[] starts = [.. blocks.Select((_, i) => blocks[..i].Sum())], order = [.. Enumerable.Range(0, blocks.Length)];
        foreach (int i in backwards ? order.Reverse() : order)
        {
            DeviceMatrix<T> block = new(new(c.Start.Address + ((long)starts[i] * c.Stride << T.SizeShift)), c.Stride);
            TopK.Add(device, shape, q.Matrix, block, blocks[i], starts[i], results, new(work.Start, workspace));
        }
        TopK.Finish(device, shape, results, new(found.Address), scores.Start);
        long[] indices = new long[queries * neighbours];
        device.Download(new DevicePointer<long>(found.Address), indices.AsSpan());
        AssertSorted(q.ToArray(), c.ToArray(), queries, dim, rows, neighbours, indices, scores.ToArray());
    }

    private static void AssertSorted(float[] queries, float[] corpus, int count, int dim, int rows, int neighbours, long[] indices, float[] scores)
    {
        for (int query = 0; query < count; query++)
        {
            float[] all = new float[rows];
            for (int row = 0; row < rows; row++)
                for (int d = 0; d < dim; d++)
                    all[row] += queries[(query * dim) + d] * corpus[(row * dim) + d];
            (long[] expected, float[] best) = TopKReference.Select(all, neighbours);
            Assert.Equal(expected, indices[(query * neighbours)..((query + 1) * neighbours)]);
            Assert.Equal(best, scores[(query * neighbours)..((query + 1) * neighbours)]);
        }
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedTopKTests(EmulationFixture fixture) : TopKTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxTopKTests(PtxFixture fixture) : TopKTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuTopKTests(GpuFixture fixture) : TopKTests(fixture.DeviceOrSkip());
