using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Attention in which each query sees its own choice of keys.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class MaskedAttentionTests
{
    public static TheoryData<int, int, int[]> Cases => new()
    {
        { 1, 8, [2] },
        { 2, 32, [1, 17, 130] },
        { 3, 64, [31, 32, 33, 63, 64, 65] },
        { 2, 24, [11, 96, 97] },
        { 1, 16, [0, 5] },
        { 1, 8, [600] },
        { 1, 40, [513, 3] },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Output_and_gradients_agree_with_the_oracle(int numHeads, int headDim, int[] lengths) => CpuKernels.AtEachWidth(width =>
    {
        Problem problem = new(numHeads, headDim, lengths);
        foreach (float dropout in new[] { 0f, 0.3f })
        {
            Result result = problem.Run(WorkerTeam.Single, dropout);
            (double[] output, double[] dq, double[] dk, double[] dv) = problem.Reference(dropout);
            string what = $"{width}, dropout {dropout}";
            Tolerance.AssertNorm(result.Output, output, what: $"{what}: output");
            Tolerance.AssertNorm(result.Dv, dv, what: $"{what}: dv");
            if (lengths.Max() <= 2) continue;             // one visible key: probability 1, gradients of the score are rounding noise
            Tolerance.AssertNorm(result.Dq, dq, what: $"{what}: dq");
            Tolerance.AssertNorm(result.Dk, dk, what: $"{what}: dk");
        }
    });

    [Fact]
    public void A_query_that_sees_nothing_gets_zero_and_passes_no_gradient_on()
    {
        Problem problem = new(2, 16, [40]) { HiddenRow = 7 };
        Result result = problem.Run(WorkerTeam.Single, 0);
        Assert.All(result.Output[(7 * 32)..(8 * 32)], v => Assert.Equal(0f, v));
        Assert.All(result.Dq[(7 * 32)..(8 * 32)], v => Assert.Equal(0f, v));
        (double[] output, double[] dq, double[] dk, double[] dv) = problem.Reference(0);
        Tolerance.AssertNorm(result.Output, output, what: "output");
        Tolerance.AssertNorm(result.Dq, dq, what: "dq");
        Tolerance.AssertNorm(result.Dk, dk, what: "dk");
        Tolerance.AssertNorm(result.Dv, dv, what: "dv");
    }

    [Fact]
    public void All_keys_visible_is_plain_attention_bit_for_bit()
    {
        Problem problem = new(2, 32, [70, 20]) { AllVisible = true };
        Result masked = problem.Run(WorkerTeam.Single, 0.2f), plain = problem.RunPlain(0.2f);
        Tolerance.AssertBitEqual(masked.Output, plain.Output, "output");
        Tolerance.AssertBitEqual(masked.Dq, plain.Dq, "dq");
        Tolerance.AssertBitEqual(masked.Dk, plain.Dk, "dk");
        Tolerance.AssertBitEqual(masked.Dv, plain.Dv, "dv");
    }

    [Fact]
    public void A_hidden_key_has_no_influence_at_all()
    {
        Problem problem = new(1, 8, [30]);
        float[] before = problem.Run(WorkerTeam.Single, 0).Output;
        for (int d = 0; d < 8; d++) problem.K[(5 * 8) + d] += 3;
        float[] after = problem.Run(WorkerTeam.Single, 0).Output;
        for (int row = 0; row < 30; row++)
        {
            bool same = before.AsSpan(row * 8, 8).SequenceEqual(after.AsSpan(row * 8, 8));
            Assert.Equal(!problem.Sees(row, 5), same);
        }
    }

    [Fact]
    public void The_number_of_threads_does_not_show()
    {
        Problem problem = new(2, 24, [100, 1, 530]);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            Result result = problem.Run(team, 0.1f);
            return [.. result.Output, .. result.Dq, .. result.Dk, .. result.Dv];
        });
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(64, 64)]
    [InlineData(65, 130)]
    [InlineData(200, 63)]
    public void Transposed_bits_are_the_same_bits(int rows, int columns)
    {
        int words = VisibleBits.Words(columns), resultWords = VisibleBits.Words(rows);
        ulong[] bits = new ulong[(rows + 3) * words], result = new ulong[columns * resultWords];
        Random random = new(rows);
        for (int i = 0; i < bits.Length; i++) bits[i] = (ulong)random.NextInt64();
        fixed (ulong* from = bits, to = result) VisibleBits.Transpose(from, 3, rows, columns, to, resultWords);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                Assert.Equal((bits[((i + 3) * words) + (j / 64)] >> (j % 64)) & 1, (result[(j * resultWords) + (i / 64)] >> (i % 64)) & 1);
    }

    private readonly record struct Result(float[] Output, float[] Dq, float[] Dk, float[] Dv);

    private sealed class Problem
    {
        private const ulong Seed = 0x0FEDCBA987654321;
        private readonly int _numHeads, _headDim;
        private readonly int[] _offsets, _starts;
        private readonly float _scale;
        private readonly double[] _q, _v, _dy;
        private readonly ulong[] _random;

        public Problem(int numHeads, int headDim, int[] lengths)
        {
            (_numHeads, _headDim, _offsets, _scale) = (numHeads, headDim, CpuKernels.Offsets(lengths), 1 / MathF.Sqrt(headDim));
            RandomData data = new(headDim);
            (_q, K) = (data.Uniform(Rows * Width, 2), data.Uniform(Rows * Width, 2));
            (_v, _dy) = (data.Uniform(Rows * Width), data.Uniform(Rows * Width));
            _starts = [.. CpuKernels.Offsets([.. lengths.Select(length => length * VisibleBits.Words(length))])];
            Random random = new(lengths[0]);
            _random = [.. Enumerable.Range(0, _starts[^1] + 1).Select(_ => (ulong)random.NextInt64() << 1 ^ (ulong)random.NextInt64())];
        }

        public double[] K { get; }

        public bool AllVisible { get; init; }

        public int HiddenRow { get; init; } = -1;

        private int Rows => _offsets[^1];

        private int Width => _numHeads * _headDim;

        /// <summary>The first key is always visible, except for itself; no row sees its own place.</summary>
        public bool Sees(int row, int key)
        {
            if (AllVisible) return true;
            int sequence = Array.FindLastIndex(_offsets, offset => offset <= row), at = row - _offsets[sequence];
            if (row == HiddenRow || key == at) return false;
            int length = _offsets[sequence + 1] - _offsets[sequence];
            return key == 0 || (at == 0 && key == length - 1) || ((_random[_starts[sequence] + (at * VisibleBits.Words(length)) + (key / 64)] >> (key % 64)) & 1) != 0;
        }

        public (double[] Output, double[] Dq, double[] Dk, double[] Dv) Reference(float dropout)
        {
            Func<int, int, int, double>? factor = dropout == 0 ? null : (head, row, key) => DropoutTests.Factor(dropout, Seed, (uint)head, (uint)row, (uint)key);
            double[] output = AttentionReference.Forward(_q, K, _v, _offsets, _offsets, _numHeads, _headDim, _scale, factor, Sees).Output;
            (double[] dq, double[] dk, double[] dv) = AttentionReference.Backward(_dy, _q, K, _v, _offsets, _offsets, _numHeads, _headDim, _scale, factor, Sees);
            return (output, dq, dk, dv);
        }

        public Result Run(WorkerTeam team, float dropout)
        {
            ulong[] bits = Bits();
            using Buffers b = new(_q, K, _v, _dy, Rows, Width, _numHeads);
            fixed (int* cu = _offsets, starts = _starts)
            fixed (ulong* visible = bits)
            {
                MaskedAttention.Forward(team, b.Q.Data, b.Q.Stride, b.K.Data, b.K.Stride, b.V.Data, b.V.Stride, cu, _offsets.Length - 1, visible, starts,
                    _numHeads, _headDim, _scale, b.Y.Data, b.Y.Stride, b.Log.Data, dropout, Seed);
                MaskedAttention.Backward(team, b.Q.Data, b.Q.Stride, b.K.Data, b.K.Stride, b.V.Data, b.V.Stride, b.Y.Data, b.Y.Stride, b.Dy.Data, b.Dy.Stride, b.Log.Data,
                    cu, _offsets.Length - 1, visible, starts, _numHeads, _headDim, _scale, dropout, Seed,
                    b.Dq.Data, b.Dq.Stride, b.Dk.Data, b.Dk.Stride, b.Dv.Data, b.Dv.Stride);
            }
            return b.Result();
        }

        public Result RunPlain(float dropout)
        {
            using Buffers b = new(_q, K, _v, _dy, Rows, Width, _numHeads);
            fixed (int* cu = _offsets)
            {
                AttentionTraining.Forward(WorkerTeam.Single, b.Q.Data, b.Q.Stride, b.K.Data, b.K.Stride, b.V.Data, b.V.Stride, cu, cu, _offsets.Length - 1,
                    _numHeads, _headDim, _scale, b.Y.Data, b.Y.Stride, b.Log.Data, dropout, Seed);
                AttentionBackward.Run(WorkerTeam.Single, b.Q.Data, b.Q.Stride, b.K.Data, b.K.Stride, b.V.Data, b.V.Stride, b.Y.Data, b.Y.Stride, b.Dy.Data, b.Dy.Stride,
                    b.Log.Data, cu, cu, _offsets.Length - 1, _numHeads, _headDim, _scale, dropout, Seed,
                    b.Dq.Data, b.Dq.Stride, b.Dk.Data, b.Dk.Stride, b.Dv.Data, b.Dv.Stride);
            }
            return b.Result();
        }

        private ulong[] Bits()
        {
            ulong[] bits = new ulong[_starts[^1] + 1];
            for (int b = 0; b + 1 < _offsets.Length; b++)
            {
                int length = _offsets[b + 1] - _offsets[b], words = VisibleBits.Words(length);
                for (int row = 0; row < length; row++)
                    for (int key = 0; key < length; key++)
                        if (Sees(_offsets[b] + row, key)) bits[_starts[b] + (row * words) + (key / 64)] |= 1UL << (key % 64);
            }
            return bits;
        }
    }

    private sealed class Buffers(double[] q, double[] k, double[] v, double[] dy, int rows, int width, int numHeads) : IDisposable
    {
        public PaddedMatrix Q { get; } = new(q, rows, width);
        public PaddedMatrix K { get; } = new(k, rows, width);
        public PaddedMatrix V { get; } = new(v, rows, width);
        public PaddedMatrix Dy { get; } = new(dy, rows, width);
        public PaddedMatrix Y { get; } = new(rows, width);
        public PaddedMatrix Log { get; } = new(numHeads, rows, 0);
        public PaddedMatrix Dq { get; } = new(rows, width);
        public PaddedMatrix Dk { get; } = new(rows, width, 7);
        public PaddedMatrix Dv { get; } = new(rows, width, 9);

        public Result Result()
        {
            foreach (PaddedMatrix result in new[] { Y, Log, Dq, Dk, Dv }) result.AssertPaddingUntouched();
            return new Result(Y.ToArray(), Dq.ToArray(), Dk.ToArray(), Dv.ToArray());
        }

        public void Dispose()
        {
            foreach (PaddedMatrix matrix in new[] { Q, K, V, Dy, Y, Log, Dq, Dk, Dv }) matrix.Dispose();
        }
    }
}
