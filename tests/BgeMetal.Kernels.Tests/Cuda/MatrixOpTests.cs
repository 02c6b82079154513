using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The plain matrix kernels that operations need between the large ones, on whatever device a derived class supplies.</summary>
public abstract class MatrixOpTests(KernelDevice device)
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 33)]
    [InlineData(5, 264)]
    public void Matrices_are_scaled_stored_and_added_between_types(int rows, int columns)
    {
        Scaled<FP32, FP32>(rows, columns);
        Scaled<BF16, BF16>(rows, columns);
        Scaled<FP32, BF16>(rows, columns);
        Scaled<FP16, FP32>(rows, columns);
    }

    [Fact]
    public void Two_short_types_are_not_mixed()
    {
        using DeviceTensor<BF16> x = new(device, 1, 8);
        using DeviceTensor<FP16> y = new(device, 1, 8);
        Assert.Throws<NotSupportedException>(() => AddScaled.Run(device, x.Matrix, 1, 8, 1f, accumulate: false, y.Matrix));
        Assert.Throws<ArgumentException>(() => AddScaled.Run(device, x.Matrix, 0, 8, 1f, accumulate: false, x.Matrix));
    }

    [Theory]
    [InlineData(8)]
    [InlineData(19)]
    [InlineData(264)]
    public void Rows_are_gathered_scattered_and_cleared_by_index(int columns)
    {
        int[] chosen = [6, 0, 3];
        RandomData data = new(columns);
        using DeviceTensor<BF16> x = Tensor(data, 7, columns), few = Tensor(data, 3, columns), y = new(device, 3, columns, columns % 8 == 0 ? 8 : 3);
        using DeviceMemory indices = device.Allocate(chosen.Length * sizeof(int));
        DevicePointer<int> pointer = new(indices.Address);
        device.Upload<int>(chosen, pointer);
        double[] before = x.ToDoubles(), fewBefore = few.ToDoubles(), expected = x.ToDoubles();

        Rows.Gather(device, x.Matrix, pointer, 3, columns, y.Matrix, accumulate: false);
        y.AssertExactly([.. chosen.SelectMany(r => Row(before, r, columns))], "gathered");
        Rows.Gather(device, x.Matrix, pointer, 3, columns, few.Matrix, accumulate: true);
        few.AssertExactly([.. chosen.SelectMany((r, i) => Row(before, r, columns).Zip(Row(fewBefore, i, columns), (a, b) => a + b))], "gathered and added");

        Rows.Scatter(device, y.Matrix, pointer, 3, columns, x.Matrix, accumulate: true);
        foreach (int r in chosen) for (int c = 0; c < columns; c++) expected[(r * columns) + c] *= 2;
        x.AssertExactly(expected, "scattered and added");
        Rows.Scatter(device, y.Matrix, pointer, 3, columns, x.Matrix, accumulate: false);
        x.AssertExactly(before, "scattered");
        Rows.Clear(device, pointer, 3, columns, x.Matrix);
        foreach (int r in chosen) before.AsSpan(r * columns, columns).Clear();
        x.AssertExactly(before, "cleared");
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(5, 3)]
    [InlineData(2, 33)]
    public void A_column_of_scores_becomes_groups_and_back(int groupCount, int groupSize)
    {
        int count = groupCount * groupSize;
        using DeviceTensor<FP32> scores = new(device, new RandomData(count).Uniform(count), count, 1, 7), groups = new(device, groupCount, groupSize), back = new(device, count, 1, 3);
        Regroup.Forward(device, scores.Matrix, groupCount, groupSize, groups.Matrix);
        groups.AssertExactly(scores.ToDoubles());
        Regroup.Backward(device, groups.Matrix, groupCount, groupSize, back.Matrix, accumulate: false);
        back.AssertExactly(scores.ToDoubles());
        Regroup.Backward(device, groups.Matrix, groupCount, groupSize, back.Matrix, accumulate: true);
        back.AssertExactly([.. scores.ToDoubles().Select(v => 2 * v)]);
    }

    [Theory]
    [InlineData(1, 1, 8)]
    [InlineData(7, 14, 40)]
    [InlineData(33, 66, 24)]
    public void Score_matrices_of_integers_and_their_gradients_are_exact(int queries, int passages, int dim)
    {
        ScoresOfIntegers<BF16>(queries, passages, dim);
        ScoresOfIntegers<FP32>(queries, passages, dim);
    }

    [Fact]
    public void Scores_refuse_a_small_workspace_and_a_temperature_of_zero()
    {
        Assert.Throws<ArgumentException>(() => Scores.Forward<BF16>(device, 1, 1, 8, default, default, 0, default));
        Assert.Throws<ArgumentException>(() => Scores.Backward<BF16>(device, 1, 1, 8, default, default, 1, default, default, false, default, false, default));
    }

    private void ScoresOfIntegers<T>(int queries, int passages, int dim) where T : unmanaged, IElement
    {
        const float temperature = 0.25f;
        RandomData data = new(queries);
        using DeviceTensor<T> q = new(device, data.Integers(queries * dim, 2), queries, dim), p = new(device, data.Integers(passages * dim, 2), passages, dim),
            dq = new(device, queries, dim), dp = new(device, data.Integers(passages * dim, 3), passages, dim);
        using DeviceTensor<FP32> scores = new(device, queries, passages), ds = new(device, data.Integers(queries * passages, 1), queries, passages);
        long length = Scores.LeastWorkspace(queries, passages, dim);
        using DeviceTensor<FP32> work = new(device, 1, (int)length, 0);
        double[] before = dp.ToDoubles(), x = q.ToDoubles(), y = p.ToDoubles(), g = ds.ToDoubles();
        Scores.Forward(device, queries, passages, dim, q.Matrix, p.Matrix, temperature, scores.Matrix);
        Scores.Backward(device, queries, passages, dim, q.Matrix, p.Matrix, temperature, ds.Matrix, dq.Matrix, false, dp.Matrix, true, new(work.Start, length));
        double[] expected = new double[queries * passages], dx = new double[x.Length], dy = before;
        for (int r = 0; r < queries; r++)
            for (int c = 0; c < passages; c++)
                for (int d = 0; d < dim; d++)
                {
                    expected[(r * passages) + c] += x[(r * dim) + d] * y[(c * dim) + d] / temperature;
                    dx[(r * dim) + d] += g[(r * passages) + c] * y[(c * dim) + d] / temperature;
                    dy[(c * dim) + d] += g[(r * passages) + c] * x[(r * dim) + d] / temperature;
                }
        scores.AssertExactly(expected, "scores");
        dq.AssertExactly([.. dx.Select(v => (double)T.FromBits(T.ToBits((float)v)))], "dq");
        dp.AssertExactly([.. dy.Select(v => (double)T.FromBits(T.ToBits((float)v)))], "dp");
    }

    private void Scaled<TFrom, TTo>(int rows, int columns) where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
    {
        RandomData data = new(rows);
        int padding = columns % 8 == 0 ? 8 : 3;
        using DeviceTensor<TFrom> x = new(device, data.Integers(rows * columns, 9), rows, columns, padding);
        using DeviceTensor<TTo> y = new(device, rows, columns, padding);
        using DeviceTensor<FP32> scale = new(device, [4], 1, 1);
        AddScaled.Run(device, x.Matrix, rows, columns, new DeviceScalar(0.5f, scale.Start), accumulate: false, y.Matrix);
        y.AssertExactly([.. x.ToDoubles().Select(v => 2 * v)], "stored");
        AddScaled.Run(device, x.Matrix, rows, columns, -3f, accumulate: true, y.Matrix);
        y.AssertExactly([.. x.ToDoubles().Select(v => -v)], "added");
    }

    private DeviceTensor<BF16> Tensor(RandomData data, int rows, int columns) => new(device, data.Integers(rows * columns, 50), rows, columns, columns % 8 == 0 ? 8 : 3);

    private static double[] Row(double[] values, int row, int columns) => values[(row * columns)..((row + 1) * columns)];
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedMatrixOpTests(EmulationFixture fixture) : MatrixOpTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxMatrixOpTests(PtxFixture fixture) : MatrixOpTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuMatrixOpTests(GpuFixture fixture) : MatrixOpTests(fixture.DeviceOrSkip());
