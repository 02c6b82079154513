using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class LinearTests
{
    // m, k, n: ones, primes, the tile and its neighbours, every row tail, column tails, 1023.
    public static TheoryData<int, int, int> Shapes
    {
        get
        {
            TheoryData<int, int, int> shapes = [];
            for (int m = 1; m <= 25; m++) shapes.Add(m, 17, 33);
            shapes.Add(1, 1, 1);
            shapes.Add(3, 7, 5);
            shapes.Add(11, 13, 31);
            shapes.Add(12, 32, 32);
            shapes.Add(13, 1, 64);
            shapes.Add(1023, 31, 67);
            shapes.Add(37, 1023, 97);
            shapes.Add(5, 64, 1023);
            shapes.Add(600, 129, 200);
            return shapes;
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Whole_numbers_come_out_exact(int m, int k, int n) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(m * 1000 + k + n);
        double[] x = data.Integers(m * k, 8), w = data.Integers(n * k, 8), bias = data.Integers(n, 100), residual = data.Integers(m * n, 100);
        foreach (LinearEpilogue epilogue in new[] { LinearEpilogue.None, LinearEpilogue.Residual })
        {
            float[] y = Run(WorkerTeam.Single, x, w, bias, m, k, n, epilogue, residual);
            double[] expected = LinearReference.Forward(x, w, bias, m, k, n, epilogue, residual);
            Assert.True(Tolerance.MaxError(y, expected) == 0, $"{width}, {epilogue}: error {Tolerance.MaxError(y, expected)}");
        }
    });

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Every_epilogue_agrees_with_the_oracle(int m, int k, int n) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(m * 7 + k * 3 + n);
        double[] x = data.Uniform(m * k, 2), w = data.Uniform(n * k, 1 / Math.Sqrt(k)), bias = data.Uniform(n), residual = data.Uniform(m * n);
        foreach (LinearEpilogue epilogue in Enum.GetValues<LinearEpilogue>())
        {
            foreach (double[]? offset in new[] { bias, null })
            {
                float[] y = Run(WorkerTeam.Single, x, w, offset, m, k, n, epilogue, residual);
                Tolerance.AssertNorm(y, LinearReference.Forward(x, w, offset, m, k, n, epilogue, residual), what: $"{width}, {epilogue}");
            }
        }
    });

    [Fact]
    public void A_row_has_the_same_bits_at_any_place_in_any_batch_with_any_team_and_width()
    {
        const int rows = 61, k = 67, n = 131;
        RandomData data = new(5);
        double[] x = data.Uniform(rows * k), w = data.Uniform(n * k), bias = data.Uniform(n);
        float[] whole = Run(WorkerTeam.Single, x, w, bias, rows, k, n, LinearEpilogue.Gelu, null);
        using WorkerTeam two = new(2), three = new(3);
        CpuKernels.AtEachWidth(width =>
        {
            Assert.SkipUnless(VectorUnit.HasFusedMultiplyAdd || VectorUnit.Widest == VectorWidth.Bits128, "widths agree in bits only with fused multiply-add");
            foreach (WorkerTeam team in new[] { WorkerTeam.Single, two, three })
            {
                for (int m = 1; m <= rows; m += m < 26 ? 1 : 7)
                {
                    int first = (rows - m) / 2;
                    float[] part = Run(team, x.AsSpan(first * k, m * k).ToArray(), w, bias, m, k, n, LinearEpilogue.Gelu, null);
                    Tolerance.AssertBitEqual(part, whole.AsSpan(first * n, m * n), $"{width}, {team.Threads} threads, {m} rows");
                }
            }
        });
    }

    [Theory]
    [InlineData(3, 384, 1536)]
    [InlineData(130, 64, 512)]
    [InlineData(1100, 33, 65)]
    public void The_number_of_threads_does_not_show(int m, int k, int n)
    {
        RandomData data = new(m);
        double[] x = data.Uniform(m * k), w = data.Uniform(n * k), bias = data.Uniform(n);
        CpuKernels.AssertSameForAnyTeam(team => Run(team, x, w, bias, m, k, n, LinearEpilogue.Tanh, null));
    }

    [Fact]
    public void A_call_allocates_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 64), 40, 64), y = new(40, 96);
        using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(96, 64), clear: true);
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
            Linear.Forward(team, x.Data, x.Stride, 40, 64, packed.Floats, null, 96, LinearEpilogue.Gelu, null, 0, y.Data, y.Stride)));
    }

    [Fact]
    public void Sizes_that_cannot_be_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Linear.Forward(WorkerTeam.Single, null, 3, 1, 4, null, null, 1, LinearEpilogue.None, null, 0, null, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Linear.Forward(WorkerTeam.Single, null, 4, 1, 4, null, null, 2, LinearEpilogue.None, null, 0, null, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Linear.Forward(WorkerTeam.Single, null, 4, -1, 4, null, null, 1, LinearEpilogue.None, null, 0, null, 1));
        Assert.Throws<ArgumentNullException>(() => Linear.Forward(WorkerTeam.Single, null, 4, 1, 4, null, null, 1, LinearEpilogue.Residual, null, 1, null, 1));
    }

    [Fact]
    public void Packing_lays_out_zero_padded_panels()
    {
        const int n = 45, k = 9;
        double[] w = new RandomData(3).Uniform(n * k);
        using PaddedMatrix weight = new(w, n, k);
        using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(n, k));
        new Span<float>(packed.Floats, 64 * k).Fill(float.NaN);
        PackedMatrix.Pack(WorkerTeam.Single, weight.Data, weight.Stride, n, k, packed.Floats);
        for (int j = 0; j < 64; j++)
            for (int l = 0; l < k; l++)
                Assert.Equal(j < n ? (float)w[(j * k) + l] : 0f, packed.Floats[((j / 32 * k) + l) * 32 + (j % 32)]);
    }

    private static float[] Run(WorkerTeam team, double[] x, double[] weight, double[]? bias, int m, int k, int n, LinearEpilogue epilogue, double[]? residual)
    {
        using PaddedMatrix a = new(x, m, k), w = new(weight, n, k), b = new(bias ?? new double[n], 1, n), r = new(residual ?? new double[m * n], m, n), y = new(m, n);
        using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(n, k));
        PackedMatrix.Pack(team, w.Data, w.Stride, n, k, packed.Floats);
        Linear.Forward(team, a.Data, a.Stride, m, k, packed.Floats, bias is null ? null : b.Data, n, epilogue, r.Data, r.Stride, y.Data, y.Stride);
        y.AssertPaddingUntouched();
        return y.ToArray();
    }
}
