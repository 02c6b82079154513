using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Layer normalisation against the oracle, on whatever device a derived class supplies.</summary>
public abstract class LayerNormTests(KernelDevice device)
{
    private const float Epsilon = 1e-12f;

    /// <summary>One column, odd columns, a warp's share and its neighbours, every number of register vectors, more than registers hold.</summary>
    public static TheoryData<int, int> Shapes => new() { { 1, 1 }, { 3, 7 }, { 5, 8 }, { 7, 264 }, { 2, 384 }, { 9, 768 }, { 3, 1024 }, { 2, 1040 } };

    [Theory, MemberData(nameof(Shapes))]
    public void Forward_agrees_with_the_oracle(int rows, int hidden)
    {
        Forward<FP32>(rows, hidden);
        Forward<BF16>(rows, hidden);
    }

    [Theory, MemberData(nameof(Shapes))]
    public void Backward_agrees_with_the_oracle(int rows, int hidden)
    {
        Backward<FP32>(rows, hidden, accumulate: false);
        Backward<BF16>(rows, hidden, accumulate: true);
    }

    [Fact]
    public void Fp16_agrees_with_the_oracle()
    {
        Forward<FP16>(3, 520);
        Backward<FP16>(3, 520, accumulate: false);
    }

    [Theory]
    [InlineData(5, 264)]
    [InlineData(6, 13)]
    public void Dropout_before_the_sum_is_the_dropout_kernel_and_then_the_sum(int rows, int hidden)
    {
        RandomData data = new(hidden);
        using DeviceMemory seed = device.Allocate(8);
        device.Upload<int>([12345, -7], new(seed.Address));
        DropoutMask mask = new(0.3f, new(seed.Address), stream: 3, firstRow: 40);
        using DeviceTensor<FP32> x = Tensor<FP32>(data.Uniform(rows * hidden, 2), rows, hidden), residual = Tensor<FP32>(data.Uniform(rows * hidden), rows, hidden),
            gamma = Tensor<FP32>(data.Uniform(hidden, 2), 1, hidden), beta = Tensor<FP32>(data.Uniform(hidden), 1, hidden), dropped = Tensor<FP32>(rows, hidden),
            sum = Tensor<FP32>(rows, hidden), y = Tensor<FP32>(rows, hidden), dy = Tensor<FP32>(data.Uniform(rows * hidden), rows, hidden),
            dx = Tensor<FP32>(rows, hidden), droppedDx = Tensor<FP32>(rows, hidden), expectedDx = Tensor<FP32>(rows, hidden),
            mean = new(device, 1, rows), rstd = new(device, 1, rows), work = new(device, 6, hidden, padding: 0), parameters = new(device, new double[2 * hidden], 1, 2 * hidden);
        Dropout.Apply(device, x.Matrix, rows, hidden, mask, dropped.Matrix);
        double[] factors = [.. Enumerable.Range(0, rows * hidden).Select(e => DropoutTests.Factor(0.3f, 12345 | (0xFFFFFFF9ul << 32), 0, 40 + (uint)(e / hidden), (uint)(e % hidden), 3))];
        dropped.AssertNear([.. x.ToDoubles().Zip(factors, (a, f) => a * f)], what: "dropout");
        Assert.InRange(factors.Count(f => f == 0), rows * hidden * 0.15, rows * hidden * 0.45);
        LayerNorm.AddForward(device, x.Matrix, mask, residual.Matrix, rows, hidden, gamma.Start, beta.Start, Epsilon, sum.Matrix, y.Matrix, mean.Start, rstd.Start);
        sum.AssertNear([.. dropped.ToDoubles().Zip(residual.ToDoubles(), (a, b) => a + b)], what: "sum");
        LayerNorm.Backward(device, dy.Matrix, sum.Matrix, rows, hidden, gamma.Start, mean.Start, rstd.Start, false, dx.Matrix, mask, droppedDx.Matrix,
            parameters.Start, new(parameters.Start.Address + (4L * hidden)), new(work.Start, 6L * hidden));
        (double[] expected, _, _) = LayerNormReference.Backward(dy.ToDoubles(), sum.ToDoubles(), gamma.ToDoubles(), rows, hidden, Epsilon);
        dx.AssertNear(expected, 1e-5, "residual's gradient");
        droppedDx.AssertNear([.. expected.Zip(factors, (g, f) => g * f)], 1e-5, "x's gradient");
    }

    [Fact]
    public void A_probability_outside_its_range_is_refused() => Assert.Throws<ArgumentOutOfRangeException>(() => new DropoutMask(1, default, 0));

    private void Forward<T>(int rows, int hidden) where T : unmanaged, IElement
    {
        RandomData data = new(rows + hidden);
        using DeviceTensor<T> x = Tensor<T>(data.Uniform(rows * hidden, 2), rows, hidden), residual = Tensor<T>(data.Uniform(rows * hidden), rows, hidden),
            gamma = Tensor<T>(data.Uniform(hidden, 2), 1, hidden), beta = Tensor<T>(data.Uniform(hidden), 1, hidden), sum = Tensor<T>(rows, hidden), y = Tensor<T>(rows, hidden);
        using DeviceTensor<FP32> mean = new(device, 1, rows), rstd = new(device, 1, rows);
        double[] added = [.. x.ToDoubles().Zip(residual.ToDoubles(), (a, b) => a + b)];
        LayerNorm.AddForward(device, x.Matrix, default, residual.Matrix, rows, hidden, gamma.Start, beta.Start, Epsilon, sum.Matrix, y.Matrix, mean.Start, rstd.Start);
        (double[] expected, double[] expectedMean, double[] expectedRstd) = LayerNormReference.Forward(added, gamma.ToDoubles(), beta.ToDoubles(), rows, hidden, Epsilon);
        sum.AssertNear(added, what: $"{T.DType} sum");
        mean.AssertNear(expectedMean, what: $"{T.DType} mean");
        if (hidden == 1) return;
        y.AssertNear(expected, what: $"{T.DType} y");
        rstd.AssertNear(expectedRstd, what: $"{T.DType} rstd");
        LayerNorm.Forward(device, sum.Matrix, rows, hidden, gamma.Start, beta.Start, Epsilon, sum.Matrix, default, default);
        if (T.DType == DType.Float32) sum.AssertNear(expected, what: "in place");
    }

    private void Backward<T>(int rows, int hidden, bool accumulate) where T : unmanaged, IElement
    {
        RandomData data = new(rows + hidden);
        using DeviceTensor<T> x = Tensor<T>(data.Uniform(rows * hidden, 2), rows, hidden), dy = Tensor<T>(data.Uniform(rows * hidden), rows, hidden),
            gamma = Tensor<T>(data.Uniform(hidden, 2), 1, hidden), dx = Tensor<T>(data.Uniform(rows * hidden), rows, hidden);
        double[] values = x.ToDoubles(), before = dx.ToDoubles();
        // A generous epsilon, because one column has no variance.
        (_, double[] means, double[] rstds) = LayerNormReference.Forward(values, gamma.ToDoubles(), new double[hidden], rows, hidden, 1e-3);
        using DeviceTensor<FP32> mean = new(device, means, 1, rows), rstd = new(device, rstds, 1, rows), work = new(device, 6, hidden, padding: 0),
            dgamma = new(device, data.Uniform(hidden), 1, hidden), dbeta = new(device, data.Uniform(hidden), 1, hidden);
        double[] gammaBefore = dgamma.ToDoubles(), betaBefore = dbeta.ToDoubles();
        LayerNorm.Backward(device, dy.Matrix, x.Matrix, rows, hidden, gamma.Start, mean.Start, rstd.Start, accumulate, dx.Matrix, default, default, dgamma.Start, dbeta.Start,
            new(work.Start, 6L * hidden));
        (double[] expected, double[] expectedGamma, double[] expectedBeta) =
            LayerNormReference.Backward(dy.ToDoubles(), values, gamma.ToDoubles(), rows, hidden, 1e-3);
        if (accumulate) expected = [.. expected.Zip(before, (a, b) => a + b)];
        if (hidden > 1) dx.AssertNear(expected, 1e-5, $"{T.DType} dx");
        dgamma.AssertNear([.. expectedGamma.Zip(gammaBefore, (a, b) => a + b)], what: $"{T.DType} dgamma");
        dbeta.AssertNear([.. expectedBeta.Zip(betaBefore, (a, b) => a + b)], what: $"{T.DType} dbeta");
    }

    private DeviceTensor<T> Tensor<T>(double[] values, int rows, int columns) where T : unmanaged, IElement =>
        new(device, values, rows, columns, padding: columns % 8 == 0 ? 8 : 3);

    private DeviceTensor<T> Tensor<T>(int rows, int columns) where T : unmanaged, IElement => new(device, rows, columns, padding: columns % 8 == 0 ? 8 : 3);
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedLayerNormTests(EmulationFixture fixture) : LayerNormTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuLayerNormTests(GpuFixture fixture) : LayerNormTests(fixture.DeviceOrSkip());
