using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Random words, dropout, and the activations of training.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class DropoutTests
{
    // The known answers of Random123's kat_vectors for philox4x32 with 10 rounds: counter, key (low half first), words.
    public static TheoryData<uint[], ulong, uint[]> KnownAnswers => new()
    {
        { [0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8] },
        { [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF], 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD] },
        { [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0A4093822, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1] },
    };

    [Theory]
    [MemberData(nameof(KnownAnswers))]
    public void Philox_gives_the_published_words(uint[] counter, ulong key, uint[] expected) => CpuKernels.AtEachWidth(width =>
    {
        Assert.Equal(expected, Words(counter[0], counter[1], counter[2], counter[3], key));
        ulong* words = stackalloc ulong[64];
        for (uint lane = 0; lane < 16; lane++)
        {
            Philox.Sixteen(counter[0] - (3 * lane), 3, counter[1] - (5 * lane), 5, counter[2], counter[3], key, words);
            for (int w = 0; w < 4; w++) Assert.True(words[(16 * w) + lane] == expected[w], $"{width}, lane {lane}, word {w}");
        }
    });

    [Fact]
    public void Rows_and_columns_of_a_mask_agree_with_its_definition() => CpuKernels.AtEachWidth(width =>
    {
        const ulong seed = 0xFEDCBA9876543210;
        DropoutMask mask = new(0.3f, seed, 5);
        float* factors = stackalloc float[256];
        foreach (int count in new[] { 1, 31, 64, 67 })
        {
            new Span<float>(factors, 256).Fill(float.NaN);
            mask.Row(11, 8, count, factors);
            Assert.True(float.IsNaN(factors[count + DropoutMask.Excess]), $"{width}: more written than said");
            for (int j = 0; j < count; j++) Assert.True(factors[j] == (float)Factor(0.3f, seed, 5, 11, (uint)(8 + j)), $"{width}: row, {j}");
        }
        mask.FourColumns(11, 29, 8, factors, 40);
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < 29; i++)
                Assert.True(factors[(40 * c) + i] == (float)Factor(0.3f, seed, 5, (uint)(11 + i), (uint)(8 + c)), $"{width}: column {c}, {i}");
    });

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 31)]
    [InlineData(130, 65)]
    public void Dropout_is_the_mask_times_the_input_for_any_team(int rows, int cols) => CpuKernels.AtEachWidth(width =>
    {
        double[] x = new RandomData(rows).Uniform(rows * cols);
        float[] expected = [.. x.Select((v, i) => (float)v * (float)Factor(0.1f, 99, 0, (uint)(i / cols), (uint)(i % cols)))];
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            using PaddedMatrix a = new(x, rows, cols), y = new(rows, cols, 7);
            Dropout.Forward(team, a.Data, a.Stride, rows, cols, 0.1f, 99, y.Data, y.Stride);
            y.AssertPaddingUntouched();
            Tolerance.AssertBitEqual(y.ToArray(), expected, width);
            Dropout.Forward(team, a.Data, a.Stride, rows, cols, 0.1f, 99, a.Data, a.Stride);
            Tolerance.AssertBitEqual(a.ToArray(), expected, $"{width}, in place");
            return y.ToArray();
        });
    });

    [Fact]
    public void The_share_of_zeros_is_the_probability_and_the_mean_is_kept()
    {
        const int rows = 500, cols = 400;
        using PaddedMatrix x = new([.. Enumerable.Repeat(1.0, rows * cols)], rows, cols), y = new(rows, cols);
        foreach (float probability in new[] { 0f, 0.1f, 0.5f, 0.9f })
        {
            Dropout.Forward(WorkerTeam.Single, x.Data, x.Stride, rows, cols, probability, 3, y.Data, y.Stride);
            float[] values = y.ToArray();
            double deviation = Math.Sqrt(probability * (1 - probability) / values.Length);
            Assert.Equal(probability, values.Count(v => v == 0) / (double)values.Length, (5 * deviation) + 1e-12);
            Assert.Equal(1, values.Average(), (5 * deviation / (1 - probability)) + 1e-6);
        }
    }

    [Fact]
    public void A_probability_that_leaves_nothing_is_refused()
    {
        using PaddedMatrix x = new(2, 2);
        foreach (float probability in new[] { 1f, -0.1f, float.NaN })
            Assert.Throws<ArgumentOutOfRangeException>(() => Dropout.Forward(WorkerTeam.Single, x.Data, x.Stride, 2, 2, probability, 1, x.Data, x.Stride));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(5, 33)]
    [InlineData(300, 130)]
    public void Activations_and_their_gradients_agree_with_the_oracle(int rows, int cols) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(cols);
        double[] x = data.Uniform(rows * cols, 4), dy = data.Uniform(rows * cols);
        double[] tanh = [.. x.Select(v => (double)(float)Math.Tanh(v))];
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            using PaddedMatrix a = new(x, rows, cols), t = new(tanh, rows, cols), gradient = new(dy, rows, cols);
            using PaddedMatrix y = new(rows, cols, 3), dx = new(rows, cols, 7), slope = new(rows, cols, 9);
            Gelu.Forward(team, a.Data, a.Stride, rows, cols, y.Data, y.Stride);
            Gelu.Backward(team, a.Data, a.Stride, gradient.Data, gradient.Stride, rows, cols, dx.Data, dx.Stride);
            TanhGradient.Backward(team, t.Data, t.Stride, gradient.Data, gradient.Stride, rows, cols, slope.Data, slope.Stride);
            foreach (PaddedMatrix result in new[] { y, dx, slope }) result.AssertPaddingUntouched();
            Assert.True(Tolerance.MaxError(y.ToArray(), [.. x.Select(ActivationReference.Gelu)]) <= 1e-6, $"{width}: gelu");
            Assert.True(Tolerance.MaxError(dx.ToArray(), [.. x.Zip(dy, (v, d) => ActivationReference.GeluDerivative(v) * d)]) <= 2e-6, $"{width}: its gradient");
            Assert.True(Tolerance.MaxError(slope.ToArray(), [.. tanh.Zip(dy, (v, d) => (1 - (v * v)) * d)]) <= 3e-7, $"{width}: tanh");
            return [.. y.ToArray(), .. dx.ToArray(), .. slope.ToArray()];
        });
    });

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 64), 40, 64), y = new(40, 64);
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            Dropout.Forward(team, x.Data, x.Stride, 40, 64, 0.1f, 99, y.Data, y.Stride);
            Gelu.Forward(team, x.Data, x.Stride, 40, 64, y.Data, y.Stride);
            Gelu.Backward(team, x.Data, x.Stride, x.Data, x.Stride, 40, 64, y.Data, y.Stride);
            TanhGradient.Backward(team, x.Data, x.Stride, x.Data, x.Stride, 40, 64, y.Data, y.Stride);
        }));
    }

    /// <summary>A mask's factor by its definition, one element at a time.</summary>
    internal static double Factor(float probability, ulong seed, uint stream, uint row, uint column, uint site = 0) =>
        Words(column / 4, row, stream, site, seed)[column % 4] >= Math.Round(probability * 4294967296.0) ? (float)(1 / (1 - (double)probability)) : 0;

    private static uint[] Words(uint x, uint y, uint z, uint w, ulong key)
    {
        uint key0 = (uint)key, key1 = (uint)(key >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong first = (ulong)x * 0xD2511F53, second = (ulong)z * 0xCD9E8D57;
            (x, y, z, w) = ((uint)(second >> 32) ^ y ^ key0, (uint)second, (uint)(first >> 32) ^ w ^ key1, (uint)first);
            key0 += 0x9E3779B9;
            key1 += 0xBB67AE85;
        }
        return [x, y, z, w];
    }
}
