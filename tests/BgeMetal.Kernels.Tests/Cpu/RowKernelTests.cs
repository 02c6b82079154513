using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>LayerNorm, embedding, pooling and normalisation.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class RowKernelTests
{
    private const float Epsilon = 1e-12f;

    public static TheoryData<int, int> Shapes => new()
    {
        { 1, 1 }, { 3, 2 }, { 2, 15 }, { 5, 16 }, { 4, 17 }, { 7, 31 }, { 3, 32 }, { 3, 33 }, { 11, 47 }, { 11, 48 }, { 6, 49 }, { 200, 384 }, { 2, 1023 },
        { 1023, 65 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void LayerNorm_agrees_with_the_oracle(int rows, int hidden) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(rows + hidden);
        double[] x = [.. data.Uniform(rows * hidden, 3).Select(v => (double)(float)(v + 10))];
        double[] gamma = data.Uniform(hidden), beta = data.Uniform(hidden);
        const float epsilon = 1e-5f;
        (double[] y, double[] mean, double[] rstd) = LayerNormReference.Forward(x, gamma, beta, rows, hidden, epsilon);
        NormResult result = Norm(WorkerTeam.Single, x, null, gamma, beta, rows, hidden, epsilon, inPlace: false);
        double limit = hidden < 3 ? 1e-3 : Tolerance.Float32Norm;   // one or two columns: x - mean cancels almost everything
        Tolerance.AssertNorm(result.Y, y, limit, width);
        Tolerance.AssertNorm(result.Mean, mean, what: width);
        Tolerance.AssertNorm(result.Rstd, rstd, limit, what: width);
        Tolerance.AssertBitEqual(Norm(WorkerTeam.Single, x, null, gamma, beta, rows, hidden, epsilon, inPlace: true).Y, result.Y, "in place");
    });

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddLayerNorm_is_LayerNorm_of_the_sum_and_keeps_the_sum(int rows, int hidden) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(rows + hidden);
        double[] x = data.Uniform(rows * hidden), residual = data.Uniform(rows * hidden), gamma = data.Uniform(hidden), beta = data.Uniform(hidden);
        float[] sum = [.. x.Zip(residual, (a, b) => (float)a + (float)b)];
        NormResult added = Norm(WorkerTeam.Single, x, residual, gamma, beta, rows, hidden, Epsilon, inPlace: false);
        NormResult plain = Norm(WorkerTeam.Single, [.. sum.Select(v => (double)v)], null, gamma, beta, rows, hidden, Epsilon, inPlace: false);
        Tolerance.AssertBitEqual(added.Sum, sum, width);
        Tolerance.AssertBitEqual(added.Y, plain.Y, width);
        Tolerance.AssertBitEqual(added.Rstd, plain.Rstd, width);
        Tolerance.AssertBitEqual(Norm(WorkerTeam.Single, x, residual, gamma, beta, rows, hidden, Epsilon, inPlace: true).Y, plain.Y, width);
    });

    [Fact]
    public void LayerNorm_of_a_large_offset_does_not_cancel()
    {
        double[] x = [.. new RandomData(2).Uniform(512).Select(v => (double)(float)(v + 1000))], ones = [.. Enumerable.Repeat(1.0, 512)];
        double[] expected = LayerNormReference.Forward(x, ones, new double[512], 1, 512, Epsilon).Y;
        Tolerance.AssertNorm(Norm(WorkerTeam.Single, x, null, ones, new double[512], 1, 512, Epsilon, inPlace: false).Y, expected, 1e-4);
    }

    [Fact]
    public void Rows_do_not_depend_on_batch_team_or_width()
    {
        Assert.SkipUnless(VectorUnit.HasFusedMultiplyAdd, "widths agree in bits only with fused multiply-add");
        const int rows = 301, hidden = 333;
        RandomData data = new(1);
        double[] x = data.Uniform(rows * hidden), gamma = data.Uniform(hidden), beta = data.Uniform(hidden);
        float[] expected = Norm(WorkerTeam.Single, x, null, gamma, beta, rows, hidden, Epsilon, inPlace: false).Y;
        float[] normalized = Normalize(WorkerTeam.Single, x, rows, hidden);
        CpuKernels.AtEachWidth(width =>
        {
            CpuKernels.AssertSameForAnyTeam(team =>
            {
                float[] y = Norm(team, x, null, gamma, beta, rows, hidden, Epsilon, inPlace: false).Y;
                Tolerance.AssertBitEqual(y, expected, width);
                Tolerance.AssertBitEqual(Normalize(team, x, rows, hidden), normalized, width);
                return y;
            });
            float[] one = Norm(WorkerTeam.Single, x.AsSpan(7 * hidden, hidden).ToArray(), null, gamma, beta, 1, hidden, Epsilon, inPlace: false).Y;
            Tolerance.AssertBitEqual(one, expected.AsSpan(7 * hidden, hidden), width);
        });
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(29, 33)]
    [InlineData(300, 384)]
    public void Embedding_adds_three_rows_exactly(int tokens, int hidden) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(tokens);
        double[] word = data.Integers(50 * hidden, 1000), position = data.Integers(20 * hidden, 1000), type = data.Integers(2 * hidden, 1000);
        int[] ids = data.Indices(tokens, 50), positions = data.Indices(tokens, 20), types = data.Indices(tokens, 2);
        double[] expected = EmbeddingReference.Forward(ids, positions, types, word, position, type, hidden);
        Assert.True(Tolerance.MaxError(Embed(WorkerTeam.Single, ids, positions, types, word, position, type, hidden, null, null), expected) == 0, width);

        int[] zeros = new int[tokens];
        double[] untyped = EmbeddingReference.Forward(ids, positions, zeros, word, position, type, hidden);
        Assert.True(Tolerance.MaxError(Embed(WorkerTeam.Single, ids, positions, null, word, position, type, hidden, null, null), untyped) == 0, width);
    });

    [Fact]
    public void Embedding_with_LayerNorm_has_the_bits_of_both_steps()
    {
        const int tokens = 97, hidden = 131;
        RandomData data = new(tokens);
        double[] word = data.Uniform(50 * hidden), position = data.Uniform(20 * hidden), type = data.Uniform(2 * hidden);
        double[] gamma = data.Uniform(hidden), beta = data.Uniform(hidden);
        int[] ids = data.Indices(tokens, 50), positions = data.Indices(tokens, 20), types = data.Indices(tokens, 2);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            float[] sum = Embed(team, ids, positions, types, word, position, type, hidden, null, null);
            float[] fused = Embed(team, ids, positions, types, word, position, type, hidden, gamma, beta);
            Tolerance.AssertBitEqual(fused, Norm(team, [.. sum.Select(v => (double)v)], null, gamma, beta, tokens, hidden, Epsilon, inPlace: false).Y);
            return fused;
        });
    }

    [Fact]
    public void Pooling_takes_the_first_or_the_mean_row_of_each_sequence() => CpuKernels.AtEachWidth(width =>
    {
        int[] offsets = CpuKernels.Offsets(1, 17, 512, 2);
        const int hidden = 37;
        double[] x = new RandomData(3).Uniform(offsets[^1] * hidden);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            (float[] cls, float[] mean) = Pool(team, x, offsets, hidden);
            Assert.True(Tolerance.MaxError(cls, PoolingReference.Cls(x, offsets, hidden)) == 0, width);
            Tolerance.AssertNorm(mean, PoolingReference.Mean(x, offsets, hidden), what: width);
            return mean;
        });
    });

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Normalised_rows_agree_with_the_oracle(int rows, int cols) => CpuKernels.AtEachWidth(width =>
    {
        double[] x = new RandomData(cols).Uniform(rows * cols, 5);
        Tolerance.AssertNorm(Normalize(WorkerTeam.Single, x, rows, cols), NormalizeRowsReference.Forward(x, rows, cols), what: width);
    });

    [Fact]
    public void A_zero_row_stays_zero()
    {
        Assert.All(Normalize(WorkerTeam.Single, new double[40], 2, 20), v => Assert.Equal(0f, v));
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 64), 40, 64), y = new(40, 64);
        int* offsets = stackalloc int[] { 0, 10, 40 };
        nint at = (nint)offsets;
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            LayerNorm.Forward(team, x.Data, x.Stride, 40, 64, x.Data, x.Data, Epsilon, y.Data, y.Stride, null, null);
            LayerNorm.AddForward(team, x.Data, x.Stride, x.Data, x.Stride, 40, 64, x.Data, x.Data, Epsilon, null, 0, y.Data, y.Stride, null, null);
            Pooling.Mean(team, x.Data, x.Stride, (int*)at, 2, 64, y.Data, y.Stride);
            Pooling.Cls(team, x.Data, x.Stride, (int*)at, 2, 64, y.Data, y.Stride);
            NormalizeRows.Forward(team, x.Data, x.Stride, 40, 64, y.Data, y.Stride);
            Embedding.Forward(team, (int*)at, (int*)at, null, 1, x.Data, x.Data, null, 64, y.Data, y.Stride);
        }));
    }

    private readonly record struct NormResult(float[] Y, float[] Sum, float[] Mean, float[] Rstd);

    private static NormResult Norm(WorkerTeam team, double[] x, double[]? residual, double[] gamma, double[] beta, int rows, int hidden, float epsilon, bool inPlace)
    {
        using PaddedMatrix a = new(x, rows, hidden), r = new(residual ?? x, rows, hidden), g = new(gamma, 1, hidden), b = new(beta, 1, hidden);
        using PaddedMatrix sum = new(rows, hidden), mean = new(1, rows), rstd = new(1, rows), other = new(rows, hidden, padding: 9);
        PaddedMatrix y = inPlace ? a : other;
        if (residual is null)
        {
            LayerNorm.Forward(team, a.Data, a.Stride, rows, hidden, g.Data, b.Data, epsilon, y.Data, y.Stride, mean.Data, rstd.Data);
        }
        else
        {
            LayerNorm.AddForward(team, a.Data, a.Stride, r.Data, r.Stride, rows, hidden, g.Data, b.Data, epsilon,
                inPlace ? null : sum.Data, sum.Stride, y.Data, y.Stride, mean.Data, rstd.Data);
        }
        y.AssertPaddingUntouched();
        sum.AssertPaddingUntouched();
        mean.AssertPaddingUntouched();
        rstd.AssertPaddingUntouched();
        return new NormResult(y.ToArray(), sum.ToArray(), mean.ToArray(), rstd.ToArray());
    }

    private static float[] Embed(WorkerTeam team, int[] ids, int[] positions, int[]? types, double[] word, double[] position, double[] type, int hidden,
        double[]? gamma, double[]? beta)
    {
        using PaddedMatrix w = new(word, word.Length / hidden, hidden, 0), p = new(position, position.Length / hidden, hidden, 0);
        using PaddedMatrix t = new(type, type.Length / hidden, hidden, 0), g = new(gamma ?? new double[hidden], 1, hidden), b = new(beta ?? new double[hidden], 1, hidden);
        using PaddedMatrix y = new(ids.Length, hidden);
        fixed (int* i = ids, at = positions, k = types)
        {
            if (gamma is null) Embedding.Forward(team, i, at, k, ids.Length, w.Data, p.Data, t.Data, hidden, y.Data, y.Stride);
            else Embedding.Forward(team, i, at, k, ids.Length, w.Data, p.Data, t.Data, hidden, g.Data, b.Data, Epsilon, y.Data, y.Stride);
        }
        y.AssertPaddingUntouched();
        return y.ToArray();
    }

    private static (float[] Cls, float[] Mean) Pool(WorkerTeam team, double[] x, int[] offsets, int hidden)
    {
        using PaddedMatrix a = new(x, offsets[^1], hidden), cls = new(offsets.Length - 1, hidden), mean = new(offsets.Length - 1, hidden);
        fixed (int* cu = offsets)
        {
            Pooling.Cls(team, a.Data, a.Stride, cu, offsets.Length - 1, hidden, cls.Data, cls.Stride);
            Pooling.Mean(team, a.Data, a.Stride, cu, offsets.Length - 1, hidden, mean.Data, mean.Stride);
        }
        cls.AssertPaddingUntouched();
        mean.AssertPaddingUntouched();
        return (cls.ToArray(), mean.ToArray());
    }

    private static float[] Normalize(WorkerTeam team, double[] x, int rows, int cols)
    {
        using PaddedMatrix a = new(x, rows, cols), y = new(rows, cols);
        NormalizeRows.Forward(team, a.Data, a.Stride, rows, cols, y.Data, y.Stride);
        y.AssertPaddingUntouched();
        return y.ToArray();
    }
}
