using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class LinearBackwardTests
{
    // m, k, n: ones, primes, the tile and its neighbours, more rows than a block, more outputs than a range.
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 1, 1, 1 }, { 2, 3, 5 }, { 13, 31, 11 }, { 12, 32, 12 }, { 7, 33, 13 }, { 130, 17, 23 }, { 255, 64, 25 }, { 257, 65, 37 }, { 600, 31, 400 },
        { 31, 200, 1023 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Gradients_of_whole_numbers_come_out_exact(int m, int k, int n) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(m + k + n);
        double[] x = data.Integers(m * k, 8), w = data.Integers(n * k, 8), dy = data.Integers(m * n, 8), dw = data.Integers(n * k, 100), db = data.Integers(n, 100);
        (double[] dx, double[] dweight, double[] dbias) = LinearReference.Backward(dy, x, w, null, m, k, n);
        Gradients result = Run(WorkerTeam.Single, x, w, dy, dw, db, m, k, n);
        Assert.True(Tolerance.MaxError(result.Dx, dx) == 0, $"{width}: dx");
        Assert.True(Tolerance.MaxError(result.Dw, [.. dweight.Zip(dw, (a, b) => a + b)]) == 0, $"{width}: dw");
        Assert.True(Tolerance.MaxError(result.Db, [.. dbias.Zip(db, (a, b) => a + b)]) == 0, $"{width}: db");
    });

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Gradients_agree_with_the_oracle(int m, int k, int n)
    {
        RandomData data = new(m + k + n);
        double[] x = data.Uniform(m * k), w = data.Uniform(n * k), dy = data.Uniform(m * n);
        (double[] dx, double[] dw, double[] db) = LinearReference.Backward(dy, x, w, null, m, k, n);
        Gradients result = Run(WorkerTeam.Single, x, w, dy, new double[n * k], new double[n], m, k, n);
        Tolerance.AssertNorm(result.Dx, dx, what: "dx");
        Tolerance.AssertNorm(result.Dw, dw, what: "dw");
        Tolerance.AssertNorm(result.Db, db, what: "db");
    }

    [Theory]
    [InlineData(300, 384, 400)]
    [InlineData(40, 512, 31)]
    [InlineData(9, 5, 200)]
    public void The_number_of_threads_does_not_show(int m, int k, int n)
    {
        RandomData data = new(m);
        double[] x = data.Uniform(m * k), w = data.Uniform(n * k), dy = data.Uniform(m * n), dw = data.Uniform(n * k), db = data.Uniform(n);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            Gradients result = Run(team, x, w, dy, dw, db, m, k, n);
            return [.. result.Dx, .. result.Dw, .. result.Db];
        });
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 64), 40, 64), dy = new(new RandomData(2).Uniform(40 * 96), 40, 96), dw = new(96, 64), db = new(1, 96);
        using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(64, 96));
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            LinearBackward.PackTransposed(team, dw.Data, dw.Stride, 96, 64, packed.Floats);
            LinearBackward.Weight(team, dy.Data, dy.Stride, x.Data, x.Stride, 40, 96, 64, dw.Data, dw.Stride);
            LinearBackward.Bias(team, dy.Data, dy.Stride, 40, 96, db.Data);
        }));
    }

    private readonly record struct Gradients(float[] Dx, float[] Dw, float[] Db);

    private static Gradients Run(WorkerTeam team, double[] x, double[] weight, double[] dy, double[] dw, double[] db, int m, int k, int n)
    {
        using PaddedMatrix a = new(x, m, k), w = new(weight, n, k), gradient = new(dy, m, n), dx = new(m, k), dweight = new(dw, n, k), dbias = new(db, 1, n);
        using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(k, n));
        new Span<float>(packed.Floats, (int)PackedMatrix.Length(k, n)).Fill(float.NaN);
        LinearBackward.PackTransposed(team, w.Data, w.Stride, n, k, packed.Floats);
        Linear.Forward(team, gradient.Data, gradient.Stride, m, n, packed.Floats, null, k, LinearEpilogue.None, null, 0, dx.Data, dx.Stride);
        LinearBackward.Weight(team, gradient.Data, gradient.Stride, a.Data, a.Stride, m, n, k, dweight.Data, dweight.Stride);
        LinearBackward.Bias(team, gradient.Data, gradient.Stride, m, n, dbias.Data);
        foreach (PaddedMatrix result in new[] { dx, dweight, dbias }) result.AssertPaddingUntouched();
        return new Gradients(dx.ToArray(), dweight.ToArray(), dbias.ToArray());
    }
}
