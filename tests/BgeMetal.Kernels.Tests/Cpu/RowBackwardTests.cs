using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Gradients of LayerNorm, embedding, pooling and normalisation.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class RowBackwardTests
{
    private const double Epsilon = 1e-5;

    public static TheoryData<int, int> Shapes => new()
    {
        { 1, 1 }, { 3, 2 }, { 2, 15 }, { 5, 16 }, { 4, 17 }, { 7, 31 }, { 3, 32 }, { 17, 33 }, { 130, 47 }, { 200, 384 }, { 2, 1023 }, { 1100, 65 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void LayerNorm_agrees_with_the_oracle(int rows, int hidden) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(rows + hidden);
        double[] x = data.Uniform(rows * hidden, 3), gamma = data.Uniform(hidden), dy = data.Uniform(rows * hidden);
        (double[] dx, double[] dgamma, double[] dbeta) = LayerNormReference.Backward(dy, x, gamma, rows, hidden, Epsilon);
        float[][] result = Norm(WorkerTeam.Single, x, dy, gamma, rows, hidden, null);
        double limit = hidden < 3 ? 1e-3 : Tolerance.Float32Norm;   // one or two columns: everything cancels
        if (hidden > 1) Tolerance.AssertNorm(result[0], dx, hidden < 3 ? 1e-2 : limit, $"{width}: dx");
        else Assert.Equal(0f, result[0][0]);
        Tolerance.AssertNorm(result[1], dgamma, limit, $"{width}: dgamma");
        Tolerance.AssertNorm(result[2], dbeta, limit, $"{width}: dbeta");

        double[] before = data.Uniform(rows * hidden);
        float[] added = Norm(WorkerTeam.Single, x, dy, gamma, rows, hidden, before)[0];
        Tolerance.AssertBitEqual(added, [.. result[0].Zip(before, (a, b) => (float)b + a)], $"{width}: accumulated");
    });

    [Theory]
    [MemberData(nameof(Shapes))]
    public void NormalizeRows_agrees_with_the_oracle(int rows, int cols) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(cols);
        double[] x = data.Uniform(rows * cols, 5), dy = data.Uniform(rows * cols);
        float[] dx = Normalize(WorkerTeam.Single, x, dy, rows, cols, null);
        if (cols > 1) Tolerance.AssertNorm(dx, NormalizeRowsReference.Backward(dy, x, rows, cols), cols < 3 ? 1e-4 : Tolerance.Float32Norm, width);
        double[] before = data.Uniform(rows * cols);
        Tolerance.AssertBitEqual(Normalize(WorkerTeam.Single, x, dy, rows, cols, before), [.. dx.Zip(before, (a, b) => (float)b + a)], width);
    });

    [Fact]
    public void A_zero_row_is_divided_by_the_smallest_norm()
    {
        float[] dx = Normalize(WorkerTeam.Single, new double[20], [.. Enumerable.Repeat(3.0, 20)], 1, 20, null);
        Assert.All(dx, d => Assert.Equal(3e12f, d, 1e6f));
    }

    [Theory]
    [InlineData(1, 1, -1, -1)]
    [InlineData(29, 33, 3, 1)]
    [InlineData(300, 384, 0, -1)]
    public void Embedding_adds_rows_up_exactly_and_leaves_padding_alone(int tokens, int hidden, int paddingId, int paddingPosition) => CpuKernels.AtEachWidth(width =>
    {
        RandomData data = new(tokens);
        int[] ids = data.Indices(tokens, 50), positions = data.Indices(tokens, 20), types = data.Indices(tokens, 2);
        double[] dy = data.Integers(tokens * hidden, 1000);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            (float[] dword, float[] dposition, float[] dtype) = Embed(team, ids, positions, types, dy, hidden, paddingId, paddingPosition);
            Assert.True(Tolerance.MaxError(dword, EmbeddingReference.Backward(dy, ids, 50, hidden, paddingId)) == 0, $"{width}: word");
            Assert.True(Tolerance.MaxError(dposition, EmbeddingReference.Backward(dy, positions, 20, hidden, paddingPosition)) == 0, $"{width}: position");
            Assert.True(Tolerance.MaxError(dtype, EmbeddingReference.Backward(dy, types, 2, hidden)) == 0, $"{width}: type");
            float[] untyped = Embed(team, ids, positions, null, dy, hidden, paddingId, paddingPosition).Dtype;
            Assert.True(Tolerance.MaxError(untyped, EmbeddingReference.Backward(dy, new int[tokens], 2, hidden)) == 0, $"{width}: no types");
            return [.. dword, .. dposition, .. dtype];
        });
    });

    [Fact]
    public void Pooling_adds_to_the_rows_it_took() => CpuKernels.AtEachWidth(width =>
    {
        int[] offsets = CpuKernels.Offsets(1, 17, 130, 2);
        const int hidden = 37;
        RandomData data = new(3);
        double[] dy = data.Uniform((offsets.Length - 1) * hidden), before = data.Uniform(offsets[^1] * hidden);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            float[] cls = Pool(team, dy, before, offsets, hidden, mean: false), mean = Pool(team, dy, before, offsets, hidden, mean: true);
            double[] fromCls = PoolingReference.ClsBackward(dy, offsets, hidden), fromMean = PoolingReference.MeanBackward(dy, offsets, hidden);
            Tolerance.AssertNorm(cls, [.. fromCls.Zip(before, (a, b) => a + b)], 1e-7, width);
            Tolerance.AssertNorm(mean, [.. fromMean.Zip(before, (a, b) => a + b)], 1e-7, width);
            return [.. cls, .. mean];
        });
    });

    [Fact]
    public void The_number_of_threads_does_not_show()
    {
        const int rows = 331, hidden = 333;
        RandomData data = new(1);
        double[] x = data.Uniform(rows * hidden), dy = data.Uniform(rows * hidden), gamma = data.Uniform(hidden);
        CpuKernels.AssertSameForAnyTeam(team =>
            [.. Norm(team, x, dy, gamma, rows, hidden, null).SelectMany(g => g), .. Normalize(team, x, dy, rows, hidden, null)]);
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
            LayerNormBackward.Run(team, x.Data, x.Stride, x.Data, x.Stride, 40, 64, x.Data, x.Data, x.Data, y.Data, y.Stride, false, y.Data, y.Data);
            NormalizeRowsBackward.Run(team, x.Data, x.Stride, x.Data, x.Stride, 40, 64, y.Data, y.Stride, true);
            PoolingBackward.Cls(team, x.Data, x.Stride, (int*)at, 2, 64, y.Data, y.Stride);
            PoolingBackward.Mean(team, x.Data, x.Stride, (int*)at, 2, 64, y.Data, y.Stride);
            EmbeddingBackward.Run(team, (int*)at, (int*)at, null, 1, x.Data, x.Stride, 64, -1, -1, y.Data, y.Data, null);
        }));
    }

    private static float[][] Norm(WorkerTeam team, double[] x, double[] dy, double[] gamma, int rows, int hidden, double[]? before)
    {
        using PaddedMatrix a = new(x, rows, hidden), gradient = new(dy, rows, hidden), g = new(gamma, 1, hidden), y = new(rows, hidden), mean = new(1, rows), rstd = new(1, rows);
        using PaddedMatrix dx = before is null ? new(rows, hidden, 3) : new(before, rows, hidden, 3);
        using PaddedMatrix dgamma = new(new double[hidden], 1, hidden), dbeta = new(new double[hidden], 1, hidden);
        LayerNorm.Forward(team, a.Data, a.Stride, rows, hidden, g.Data, g.Data, (float)Epsilon, y.Data, y.Stride, mean.Data, rstd.Data);
        LayerNormBackward.Run(team, a.Data, a.Stride, gradient.Data, gradient.Stride, rows, hidden, g.Data, mean.Data, rstd.Data, dx.Data, dx.Stride, before is not null,
            dgamma.Data, dbeta.Data);
        foreach (PaddedMatrix result in new[] { dx, dgamma, dbeta }) result.AssertPaddingUntouched();
        return [dx.ToArray(), dgamma.ToArray(), dbeta.ToArray()];
    }

    private static float[] Normalize(WorkerTeam team, double[] x, double[] dy, int rows, int cols, double[]? before)
    {
        using PaddedMatrix a = new(x, rows, cols), gradient = new(dy, rows, cols), dx = before is null ? new(rows, cols, 3) : new(before, rows, cols, 3);
        NormalizeRowsBackward.Run(team, a.Data, a.Stride, gradient.Data, gradient.Stride, rows, cols, dx.Data, dx.Stride, before is not null);
        dx.AssertPaddingUntouched();
        return dx.ToArray();
    }

    private static float[] Pool(WorkerTeam team, double[] dy, double[] before, int[] offsets, int hidden, bool mean)
    {
        using PaddedMatrix gradient = new(dy, offsets.Length - 1, hidden), dx = new(before, offsets[^1], hidden);
        fixed (int* cu = offsets)
        {
            if (mean) PoolingBackward.Mean(team, gradient.Data, gradient.Stride, cu, offsets.Length - 1, hidden, dx.Data, dx.Stride);
            else PoolingBackward.Cls(team, gradient.Data, gradient.Stride, cu, offsets.Length - 1, hidden, dx.Data, dx.Stride);
        }
        dx.AssertPaddingUntouched();
        return dx.ToArray();
    }

    private static (float[] Dword, float[] Dposition, float[] Dtype) Embed(WorkerTeam team, int[] ids, int[] positions, int[]? types, double[] dy, int hidden,
        int paddingId, int paddingPosition)
    {
        using PaddedMatrix gradient = new(dy, ids.Length, hidden);
        using PaddedMatrix dword = new(new double[50 * hidden], 50, hidden, 0), dposition = new(new double[20 * hidden], 20, hidden, 0), dtype = new(new double[2 * hidden], 2, hidden, 0);
        fixed (int* i = ids, at = positions, k = types)
        {
            EmbeddingBackward.Run(team, i, at, k, ids.Length, gradient.Data, gradient.Stride, hidden, paddingId, paddingPosition, dword.Data, dposition.Data, dtype.Data);
        }
        foreach (PaddedMatrix result in new[] { dword, dposition, dtype }) result.AssertPaddingUntouched();
        return (dword.ToArray(), dposition.ToArray(), dtype.ToArray());
    }
}
