using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Attention in training: dropout and gradients.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class AttentionBackwardTests
{
    public static TheoryData<int, int, int[], int[]> Cases => new()
    {
        { 1, 8, [1], [1] },
        { 2, 32, [1, 17, 130], [1, 17, 130] },
        { 3, 64, [17, 1, 31, 32, 33], [17, 1, 31, 32, 33] },
        { 2, 24, [11, 12, 13, 47], [11, 12, 13, 47] },
        { 1, 40, [127], [127] },
        { 1, 16, [95, 97], [96, 193] },
        { 1, 8, [513], [600] },
        { 5, 7, [3, 29], [3, 29] },
        { 2, 32, [1, 1, 1], [1, 17, 130] },
        { 2, 8, [2, 0, 3], [0, 4, 5] },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_agree_with_the_oracle(int numHeads, int headDim, int[] queries, int[] keys) => CpuKernels.AtEachWidth(width =>
    {
        Problem problem = new(numHeads, headDim, queries, keys, 1 / Math.Sqrt(headDim), headDim);
        foreach (float dropout in new[] { 0f, 0.3f })
        {
            Result result = problem.Run(WorkerTeam.Single, dropout);
            (double[] output, double[] dq, double[] dk, double[] dv) = problem.Reference(dropout);
            string what = $"{width}, dropout {dropout}";
            Tolerance.AssertNorm(result.Output, output, what: $"{what}: output");
            Tolerance.AssertNorm(result.Dv, dv, what: $"{what}: dv");
            if (keys.All(n => n <= 1)) continue;          // one key: probability 1, gradients of the score are rounding noise
            Tolerance.AssertNorm(result.Dq, dq, what: $"{what}: dq");
            Tolerance.AssertNorm(result.Dk, dk, what: $"{what}: dk");
        }
    });

    [Fact]
    public void The_number_of_threads_and_the_width_do_not_show()
    {
        Assert.SkipUnless(VectorUnit.HasFusedMultiplyAdd, "widths agree in bits only with fused multiply-add");
        Problem problem = new(2, 24, [100, 1, 530], [100, 1, 530], 0.125, 6);
        float[] expected = Run(WorkerTeam.Single);
        CpuKernels.AtEachWidth(width => Tolerance.AssertBitEqual(Run(WorkerTeam.Single), expected, width));
        CpuKernels.AssertSameForAnyTeam(Run);

        float[] Run(WorkerTeam team)
        {
            Result result = problem.Run(team, 0.1f);
            return [.. result.Output, .. result.Dq, .. result.Dk, .. result.Dv];
        }
    }

    [Fact]
    public void A_NaN_reaches_only_its_own_sequence()
    {
        Problem problem = new(1, 8, [4, 4], [4, 4], 0.3, 2);
        problem.K[5] = double.NaN;
        Result result = problem.Run(WorkerTeam.Single, 0);
        Assert.All(result.Dq.AsSpan(0, 32).ToArray(), v => Assert.True(float.IsNaN(v)));
        Assert.All((float[])[.. result.Dq[32..], .. result.Dk[32..], .. result.Dv[32..]], v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(130 * 64), 130, 64), y = new(130, 64), dq = new(130, 64), dk = new(130, 64), dv = new(130, 64), log = new(2, 130, 0);
        using WorkerTeam team = new(2);
        int* offsets = stackalloc int[] { 0, 100, 130 };
        nint at = (nint)offsets;
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            AttentionTraining.Forward(team, x.Data, x.Stride, x.Data, x.Stride, x.Data, x.Stride, (int*)at, (int*)at, 2, 2, 32, 0.2f, y.Data, y.Stride, log.Data, 0.1f, 7);
            AttentionBackward.Run(team, x.Data, x.Stride, x.Data, x.Stride, x.Data, x.Stride, y.Data, y.Stride, x.Data, x.Stride, log.Data, (int*)at, (int*)at, 2, 2, 32,
                0.2f, 0.1f, 7, dq.Data, dq.Stride, dk.Data, dk.Stride, dv.Data, dv.Stride);
        }));
    }

    private readonly record struct Result(float[] Output, float[] Dq, float[] Dk, float[] Dv);

    private sealed class Problem
    {
        private const ulong Seed = 0x123456789ABCDEF0;
        private readonly int _numHeads, _headDim;
        private readonly int[] _queries, _keys;
        private readonly double _scale;
        private readonly double[] _q, _v, _dy;

        public Problem(int numHeads, int headDim, int[] queries, int[] keys, double scale, int seed)
        {
            (_numHeads, _headDim, _queries, _keys, _scale) = (numHeads, headDim, CpuKernels.Offsets(queries), CpuKernels.Offsets(keys), (float)scale);
            RandomData data = new(seed);
            (_q, K) = (data.Uniform(_queries[^1] * Width, 2), data.Uniform(_keys[^1] * Width, 2));
            (_v, _dy) = (data.Uniform(_keys[^1] * Width), data.Uniform(_queries[^1] * Width));
        }

        public double[] K { get; }

        private int Width => _numHeads * _headDim;

        public (double[] Output, double[] Dq, double[] Dk, double[] Dv) Reference(float dropout)
        {
            Func<int, int, int, double>? factor = dropout == 0 ? null : (head, row, key) => DropoutTests.Factor(dropout, Seed, (uint)head, (uint)row, (uint)key);
            double[] output = AttentionReference.Forward(_q, K, _v, _queries, _keys, _numHeads, _headDim, _scale, factor).Output;
            (double[] dq, double[] dk, double[] dv) = AttentionReference.Backward(_dy, _q, K, _v, _queries, _keys, _numHeads, _headDim, _scale, factor);
            return (output, dq, dk, dv);
        }

        public Result Run(WorkerTeam team, float dropout)
        {
            int queries = _queries[^1], keys = _keys[^1];
            using PaddedMatrix q = new(_q, queries, Width), k = new(K, keys, Width), v = new(_v, keys, Width), y = new(queries, Width), log = new(_numHeads, queries, 0);
            using PaddedMatrix dy = new(_dy, queries, Width), dq = new(queries, Width), dk = new(keys, Width, 7), dv = new(keys, Width, 9);
            fixed (int* cuQ = _queries, cuK = _keys)
            {
                AttentionTraining.Forward(team, q.Data, q.Stride, k.Data, k.Stride, v.Data, v.Stride, cuQ, cuK, _queries.Length - 1, _numHeads, _headDim,
                    (float)_scale, y.Data, y.Stride, log.Data, dropout, Seed);
                AttentionBackward.Run(team, q.Data, q.Stride, k.Data, k.Stride, v.Data, v.Stride, y.Data, y.Stride, dy.Data, dy.Stride, log.Data, cuQ, cuK,
                    _queries.Length - 1, _numHeads, _headDim, (float)_scale, dropout, Seed, dq.Data, dq.Stride, dk.Data, dk.Stride, dv.Data, dv.Stride);
            }
            foreach (PaddedMatrix result in new[] { y, log, dq, dk, dv }) result.AssertPaddingUntouched();
            return new Result(y.ToArray(), dq.ToArray(), dk.ToArray(), dv.ToArray());
        }
    }
}
