using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class AttentionTests
{
    public static TheoryData<int, int, int[]> Cases => new()
    {
        { 1, 8, [1] },
        { 2, 32, [1, 17, 512] },
        { 3, 64, [17, 1, 31, 32, 33] },
        { 2, 24, [11, 12, 13, 47] },
        { 1, 40, [127] },
        { 1, 128, [65, 2] },
        { 2, 32, [1023] },
        { 1, 16, [1024, 5] },
        { 1, 8, [1025, 2049] },
        { 5, 7, [3, 29] },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Packed_sequences_agree_with_the_oracle(int numHeads, int headDim, int[] lengths) => CpuKernels.AtEachWidth(width =>
    {
        Problem problem = new(numHeads, headDim, lengths, lengths, 1 / Math.Sqrt(headDim), seed: headDim);
        (float[] output, float[] logSumExp) = problem.Run(WorkerTeam.Single);
        (double[] expected, double[] expectedLog) = problem.Reference();
        Tolerance.AssertNorm(output, expected, what: width);
        Tolerance.AssertNorm(logSumExp, expectedLog, what: width);
    });

    [Fact]
    public void Large_scores_neither_overflow_nor_lose_the_largest()
    {
        Problem problem = new(2, 16, [40, 1030], [40, 1030], scale: 60, seed: 9);
        (float[] output, float[] logSumExp) = problem.Run(WorkerTeam.Single);
        (double[] expected, double[] expectedLog) = problem.Reference();
        Tolerance.AssertNorm(output, expected, 1e-4);
        Tolerance.AssertNorm(logSumExp, expectedLog);
    }

    [Fact]
    public void One_query_a_sequence_gives_the_bits_of_the_full_layer() => CpuKernels.AtEachWidth(width =>
    {
        int[] lengths = [1, 17, 200, 31];
        foreach (int headDim in new[] { 32, 40, 64 })
        {
            Problem full = new(2, headDim, lengths, lengths, 0.2, seed: 4);
            float[] all = full.Run(WorkerTeam.Single).Output;
            Problem first = full with { QueryLengths = [1, 1, 1, 1], Q = FirstRows(full.Q, lengths, full.Width) };
            Tolerance.AssertBitEqual(first.Run(WorkerTeam.Single).Output, FirstRows(all, lengths, full.Width), width);
        }
    });

    [Fact]
    public void A_sequence_has_the_same_bits_alone_and_packed_with_others() => CpuKernels.AtEachWidth(width =>
    {
        int[] lengths = [512, 1, 17];
        Problem packed = new(2, 32, lengths, lengths, 0.3, seed: 8);
        float[] all = packed.Run(WorkerTeam.Single).Output;
        for (int b = 0, row = 0; b < lengths.Length; row += lengths[b++])
        {
            int at = row * packed.Width, count = lengths[b] * packed.Width;
            Problem alone = new(2, 32, [lengths[b]], [lengths[b]], 0.3, seed: 0)
            {
                Q = packed.Q.AsSpan(at, count).ToArray(),
                K = packed.K.AsSpan(at, count).ToArray(),
                V = packed.V.AsSpan(at, count).ToArray(),
            };
            Tolerance.AssertBitEqual(alone.Run(WorkerTeam.Single).Output, all.AsSpan(at, count), $"{width}, sequence {b}");
        }
    });

    [Theory]
    [InlineData(new[] { 512 })]
    [InlineData(new[] { 1, 17, 130, 64 })]
    [InlineData(new[] { 1100 })]
    public void The_number_of_threads_does_not_show(int[] lengths)
    {
        Problem problem = new(1, 64, lengths, lengths, 0.125, seed: 6);
        CpuKernels.AssertSameForAnyTeam(team => problem.Run(team).Output);
    }

    [Fact]
    public void All_widths_give_the_same_bits()
    {
        Assert.SkipUnless(VectorUnit.HasFusedMultiplyAdd, "widths agree in bits only with fused multiply-add");
        Problem problem = new(2, 24, [100, 1, 1500], [100, 1, 1500], 0.125, seed: 6);
        float[] expected = problem.Run(WorkerTeam.Single).Output;
        CpuKernels.AtEachWidth(width => Tolerance.AssertBitEqual(problem.Run(WorkerTeam.Single).Output, expected, width));
    }

    [Fact]
    public void Queries_without_keys_get_zero()
    {
        Problem problem = new(2, 8, [2, 3], [0, 4], 0.3, seed: 2);
        (float[] output, float[] logSumExp) = problem.Run(WorkerTeam.Single);
        Assert.All(output.AsSpan(0, 2 * 16).ToArray(), v => Assert.Equal(0f, v));
        Assert.Equal(float.NegativeInfinity, logSumExp[1]);
        Assert.All(output.AsSpan(2 * 16).ToArray(), v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void A_NaN_reaches_only_its_own_sequence()
    {
        Problem problem = new(1, 8, [4, 4], [4, 4], 0.3, seed: 2);
        problem.K[5] = double.NaN;
        float[] output = problem.Run(WorkerTeam.Single).Output;
        Assert.All(output.AsSpan(0, 32).ToArray(), v => Assert.True(float.IsNaN(v)));
        Assert.All(output.AsSpan(32).ToArray(), v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void A_call_allocates_no_managed_memory()
    {
        Problem problem = new(2, 32, [100, 30], [100, 30], 0.2, seed: 2);
        using PaddedMatrix q = new(problem.Q, 130, 64), k = new(problem.K, 130, 64), v = new(problem.V, 130, 64), y = new(130, 64);
        using WorkerTeam team = new(2);
        int* offsets = stackalloc int[] { 0, 100, 130 };
        nint at = (nint)offsets;
        Assert.Equal(0, CpuKernels.ManagedBytes(() => Attention.Forward(
            team, q.Data, q.Stride, k.Data, k.Stride, v.Data, v.Stride, (int*)at, (int*)at, 2, 2, 32, 0.2f, y.Data, y.Stride, null)));
    }

    private static T[] FirstRows<T>(T[] rows, int[] lengths, int width)
    {
        int[] offsets = CpuKernels.Offsets(lengths);
        return [.. lengths.SelectMany((_, b) => rows.AsSpan(offsets[b] * width, width).ToArray())];
    }

    private sealed record Problem
    {
        public Problem(int numHeads, int headDim, int[] queryLengths, int[] keyLengths, double scale, int seed)
        {
            (NumHeads, HeadDim, QueryLengths, KeyLengths, Scale) = (numHeads, headDim, queryLengths, keyLengths, (float)scale);
            RandomData data = new(seed);
            (Q, K, V) = (data.Uniform(queryLengths.Sum() * Width, 2), data.Uniform(keyLengths.Sum() * Width, 2), data.Uniform(keyLengths.Sum() * Width));
        }

        public int NumHeads { get; }

        public int HeadDim { get; }

        public int Width => NumHeads * HeadDim;

        public int[] QueryLengths { get; init; }

        public int[] KeyLengths { get; }

        public float Scale { get; }

        public double[] Q { get; init; }

        public double[] K { get; init; }

        public double[] V { get; init; }

        public (double[] Output, double[] LogSumExp) Reference() =>
            AttentionReference.Forward(Q, K, V, CpuKernels.Offsets(QueryLengths), CpuKernels.Offsets(KeyLengths), NumHeads, HeadDim, Scale);

        public (float[] Output, float[] LogSumExp) Run(WorkerTeam team)
        {
            int queries = QueryLengths.Sum(), keys = KeyLengths.Sum();
            using PaddedMatrix q = new(Q, queries, Width), k = new(K, keys, Width), v = new(V, keys, Width), y = new(queries, Width), log = new(NumHeads, queries, 0);
            fixed (int* cuQ = CpuKernels.Offsets(QueryLengths), cuK = CpuKernels.Offsets(KeyLengths))
            {
                Attention.Forward(team, q.Data, q.Stride, k.Data, k.Stride, v.Data, v.Stride, cuQ, cuK, QueryLengths.Length, NumHeads, HeadDim, Scale,
                    y.Data, y.Stride, log.Data);
            }
            y.AssertPaddingUntouched();
            log.AssertPaddingUntouched();
            return (y.ToArray(), log.ToArray());
        }
    }
}
