using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class TopKTests
{
    // m (both sides of the scan's limit), rows, dim, k.
    public static TheoryData<int, int, int, int> Shapes => new()
    {
        { 1, 1, 1, 1 }, { 1, 5, 3, 9 }, { 3, 1000, 64, 10 }, { 4, 1000, 64, 10 }, { 2, 1023, 67, 1 }, { 33, 1023, 67, 7 }, { 70, 257, 100, 300 }, { 5, 13, 16, 13 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Finds_what_sorting_all_scores_finds(int m, int rows, int dim, int k) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(rows);
        CheckAgainstSorting(WorkerTeam.Single, data.Uniform(m * dim), data.Uniform(rows * dim), m, rows, dim, k);
        CheckAgainstSorting(WorkerTeam.Single, data.Integers(m * dim, 1), data.Integers(rows * dim, 1), m, rows, dim, k);      // full of ties
    });

    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    public void Scores_are_the_inner_products(int m)
    {
        RandomData data = new(3);
        double[] queries = data.Uniform(m * 96), corpus = data.Uniform(500 * 96);
        (long[] indices, float[] scores) = Run(WorkerTeam.Single, queries, corpus, m, 500, 96, 5);
        double[] expected = LinearReference.Forward(queries, corpus, null, m, 96, 500);
        Tolerance.AssertNorm(scores, [.. indices.Select((row, i) => expected[(i / 5 * 500) + row])]);
    }

    [Fact]
    public void One_query_and_a_batch_give_the_same_bits_at_any_width_with_any_team()
    {
        const int m = 37, rows = 3001, dim = 83, k = 12;
        RandomData data = new(8);
        double[] queries = data.Uniform(m * dim), corpus = data.Uniform(rows * dim);
        (long[] indices, float[] scores) = Run(WorkerTeam.Single, queries, corpus, m, rows, dim, k);
        using WorkerTeam two = new(2), three = new(3);
        CpuKernels.AtEachWidth(width =>
        {
            foreach (WorkerTeam team in new[] { WorkerTeam.Single, two, three })
            {
                (long[] again, float[] sameScores) = Run(team, queries, corpus, m, rows, dim, k);
                Assert.Equal(indices, again);
                Tolerance.AssertBitEqual(sameScores, scores, width);
                (long[] one, float[] oneScores) = Run(team, queries.AsSpan(5 * dim, dim).ToArray(), corpus, 1, rows, dim, k);
                Assert.Equal(indices.AsSpan(5 * k, k).ToArray(), one);
                Tolerance.AssertBitEqual(oneScores, scores.AsSpan(5 * k, k), width);
            }
        });
    }

    [Theory]
    [InlineData(2)]
    [InlineData(8)]
    public void Blocks_in_any_order_give_the_result_of_the_whole(int m)
    {
        const int rows = 700, dim = 40, k = 9;
        RandomData data = new(8);
        double[] queries = data.Integers(m * dim, 2), corpus = data.Integers(rows * dim, 2);
        (long[] indices, float[] scores) = Run(WorkerTeam.Single, queries, corpus, m, rows, dim, k);
        using PaddedMatrix q = new(queries, m, dim), c = new(corpus, rows, dim);
        using WorkerTeam team = new(2);
        using TopK search = new(team, q.Data, q.Stride, m, dim, k);
        foreach ((int first, int count) in new[] { (600, 100), (0, 1), (1, 0), (1, 399), (400, 200) })
            search.Add(c.Data + (first * c.Stride), c.Stride, count, first);
        long[] blockIndices = new long[m * k];
        float[] blockScores = new float[m * k];
        fixed (long* i = blockIndices) fixed (float* s = blockScores) search.Finish(i, s);
        Assert.Equal(indices, blockIndices);
        Tolerance.AssertBitEqual(blockScores, scores);
        nint data0 = (nint)c.Data;
        Assert.Throws<InvalidOperationException>(() => search.Add((float*)data0, c.Stride, 1, 0));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(6)]
    public void NaN_scores_rank_last_and_infinities_where_they_belong(int m)
    {
        const int rows = 60, dim = 5;
        RandomData data = new(8);
        double[] queries = [.. data.Uniform(m * dim).Select(v => Math.Abs(v) + 0.1)], corpus = data.Uniform(rows * dim);
        for (int r = 0; r < 50; r++) corpus[(r * dim) + 2] = double.NaN;
        corpus[(52 * dim) + 1] = double.PositiveInfinity;
        corpus[(53 * dim) + 1] = double.NegativeInfinity;
        CheckAgainstSorting(WorkerTeam.Single, queries, corpus, m, rows, dim, 3);
        CheckAgainstSorting(WorkerTeam.Single, queries, corpus, m, rows, dim, 15);
        CheckAgainstSorting(WorkerTeam.Single, queries, corpus, m, rows, dim, 70);
    }

    [Theory]
    [InlineData(1e-30)]
    [InlineData(1e-20)]
    [InlineData(1e18)]
    public void Tiny_and_huge_vectors_are_not_lost_by_the_estimate(double scale)
    {
        RandomData data = new(8);
        double[] queries = data.Uniform(64), corpus = [.. data.Uniform(400 * 64).Select(v => (double)(float)(v * scale))];
        CheckAgainstSorting(WorkerTeam.Single, queries, corpus, 1, 400, 64, 11);
    }

    [Fact]
    public void Rising_scores_that_defeat_every_threshold_are_found()
    {
        const int rows = 500, dim = 32;
        double[] corpus = new double[rows * dim], query = new double[dim];
        Array.Fill(query, 1);
        for (int r = 0; r < rows; r++) corpus[(r * dim) + (r % dim)] = r;
        (long[] indices, float[] scores) = Run(WorkerTeam.Single, query, corpus, 1, rows, dim, 3);
        Assert.Equal([499L, 498, 497], indices);
        Assert.Equal([499f, 498, 497], scores);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    public void An_empty_corpus_gives_no_neighbours_and_no_queries_give_nothing(int m)
    {
        (long[] indices, float[] scores) = Run(WorkerTeam.Single, new double[m * 4], [], m, 0, 4, 3);
        Assert.All(indices, index => Assert.Equal(-1, index));
        Assert.All(scores, score => Assert.Equal(float.NegativeInfinity, score));
        Assert.Empty(Run(WorkerTeam.Single, [], new double[8], 0, 2, 4, 3).Indices);
    }

    [Fact]
    public void A_search_allocates_no_managed_memory()
    {
        using PaddedMatrix q = new(new RandomData(1).Uniform(40 * 64), 40, 64), c = new(new RandomData(2).Uniform(300 * 64), 300, 64);
        using NativeBuffer indices = new(40 * 8 * 8), scores = new(40 * 8 * 4);
        using WorkerTeam team = new(2);
        foreach (int m in new[] { 1, 40 })
        {
            Assert.Equal(0, CpuKernels.ManagedBytes(() =>
                TopK.Search(team, q.Data, q.Stride, m, 64, c.Data, c.Stride, 300, 8, (long*)indices.Bytes, scores.Floats)));
        }
    }

    // The scores themselves come from the batch path's order of additions, which Linear shares.
    private static void CheckAgainstSorting(WorkerTeam team, double[] queries, double[] corpus, int m, int rows, int dim, int k)
    {
        float[] scores = new float[m * rows];
        for (int i = 0; i < m; i++)
        {
            for (int r = 0; r < rows; r++)
            {
                float sum = 0;
                for (int d = 0; d < dim; d++) sum = VectorUnit.MultiplyAdd((float)queries[(i * dim) + d], (float)corpus[(r * dim) + d], sum);
                scores[(i * rows) + r] = sum;
            }
        }
        (long[] indices, float[] found) = Run(team, queries, corpus, m, rows, dim, k);
        for (int i = 0; i < m; i++)
        {
            (long[] expected, float[] expectedScores) = TopKReference.Select(scores.AsSpan(i * rows, rows).ToArray(), k);
            Assert.Equal(expected, indices.AsSpan(i * k, k).ToArray());
            Assert.Equal(expectedScores, found.AsSpan(i * k, k).ToArray());
        }
    }

    private static (long[] Indices, float[] Scores) Run(WorkerTeam team, double[] queries, double[] corpus, int m, int rows, int dim, int k)
    {
        using PaddedMatrix q = new(queries, m, dim), c = new(corpus, rows, dim);
        long[] indices = new long[m * k];
        float[] scores = new float[m * k];
        fixed (long* i = indices) fixed (float* s = scores) TopK.Search(team, q.Data, q.Stride, m, dim, c.Data, c.Stride, rows, k, i, s);
        return (indices, scores);
    }
}
