using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
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

    private void Forward<T>(int rows, int hidden) where T : unmanaged, IElement
    {
        RandomData data = new(rows + hidden);
        using DeviceTensor<T> x = Tensor<T>(data.Uniform(rows * hidden, 2), rows, hidden), residual = Tensor<T>(data.Uniform(rows * hidden), rows, hidden),
            gamma = Tensor<T>(data.Uniform(hidden, 2), 1, hidden), beta = Tensor<T>(data.Uniform(hidden), 1, hidden), sum = Tensor<T>(rows, hidden), y = Tensor<T>(rows, hidden);
        using DeviceTensor<FP32> mean = new(device, 1, rows), rstd = new(device, 1, rows);
        double[] added = [.. x.ToDoubles().Zip(residual.ToDoubles(), (a, b) => a + b)];
        LayerNorm.AddForward(device, x.Matrix, residual.Matrix, rows, hidden, gamma.Start, beta.Start, Epsilon, sum.Matrix, y.Matrix, mean.Start, rstd.Start);
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
        LayerNorm.Backward(device, dy.Matrix, x.Matrix, rows, hidden, gamma.Start, mean.Start, rstd.Start, accumulate, dx.Matrix, dgamma.Start, dbeta.Start,
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
