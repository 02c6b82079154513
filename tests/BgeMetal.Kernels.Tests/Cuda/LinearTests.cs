using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The linear layer's kernels against the oracle, on whatever device a derived class supplies.</summary>
public abstract class LinearTests(KernelDevice device)
{
    /// <summary>Rows, inputs, outputs: one row, odd rows, tiles and their neighbours, depths that fill no stage or several, odd outputs, one output.</summary>
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 1, 8, 8 }, { 7, 24, 33 }, { 33, 64, 72 }, { 65, 200, 64 }, { 127, 72, 129 }, { 129, 40, 136 }, { 5, 7, 3 }, { 9, 32, 1 },
    };

    private static Workspace NoWorkspace => default;

    [Theory, MemberData(nameof(Shapes))]
    public void Bf16_products_of_integers_are_exact(int rows, int inputs, int outputs) => ForwardOfIntegers<BF16>(rows, inputs, outputs);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp16_products_of_integers_are_exact(int rows, int inputs, int outputs) => ForwardOfIntegers<FP16>(rows, inputs, outputs);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp32_products_of_integers_are_exact(int rows, int inputs, int outputs) => ForwardOfIntegers<FP32>(rows, inputs, outputs);

    [Theory, MemberData(nameof(Shapes))]
    public void Bf16_gradients_of_integers_are_exact(int rows, int inputs, int outputs) => BackwardOfIntegers<BF16>(rows, inputs, outputs);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp32_gradients_of_integers_are_exact(int rows, int inputs, int outputs) => BackwardOfIntegers<FP32>(rows, inputs, outputs);

    [Fact]
    public void Gelu_keeps_the_pre_activation_and_agrees_with_the_oracle()
    {
        Activated<BF16>(37, 72, 80, LinearActivation.Gelu);
        Activated<FP16>(37, 72, 80, LinearActivation.Gelu);
        Activated<FP32>(37, 72, 80, LinearActivation.Gelu);
        Activated<FP32>(5, 9, 11, LinearActivation.Gelu);
    }

    [Fact]
    public void Tanh_agrees_with_the_oracle()
    {
        Activated<BF16>(37, 72, 80, LinearActivation.Tanh);
        Activated<FP32>(37, 72, 75, LinearActivation.Tanh);
    }

    [Fact]
    public void A_product_split_along_its_depth_is_the_product()
    {
        SplitProduct<BF16>(17, 2048, 24, 4, expectSplits: true);
        SplitProduct<FP32>(17, 1024, 19, 2, expectSplits: true);
        SplitProduct<BF16>(17, 2048, 24, 0, expectSplits: false);
    }

    [Fact]
    public void The_large_tile_is_taken_where_it_fills_the_device_and_is_exact()
    {
        (int rows, int inputs, int outputs) = (130, 72, 264);
        RandomData data = new(3);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0);
        GemmPlan plan = GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, NoWorkspace) with { TensorCores = true, LargeTile = true };
        plan.Run<BF16, Nt, Partial>(new Partial(y.Start, rows, outputs));
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs));
    }

    [Fact]
    public void The_large_tile_transposes_either_operand_exactly()
    {
        (int rows, int inputs, int outputs) = (140, 136, 152);
        RandomData data = new(4);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 2), outputs, inputs),
            dy = new(device, data.Integers(rows * outputs, 1), rows, outputs);
        using DeviceTensor<FP32> dx = new(device, rows, inputs, padding: 0), dw = new(device, outputs, inputs, padding: 0);
        (double[] dxExpected, double[] dwExpected, _) = LinearReference.Backward(dy.ToDoubles(), x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs);
        (GemmPlan.Choose<BF16, Nn>(device, rows, inputs, outputs, dy.Matrix, w.Matrix, NoWorkspace) with { LargeTile = true })
            .Run<BF16, Nn, Partial>(new Partial(dx.Start, rows, inputs));
        (GemmPlan.Choose<BF16, Tn>(device, outputs, inputs, rows, dy.Matrix, x.Matrix, NoWorkspace) with { LargeTile = true })
            .Run<BF16, Tn, Partial>(new Partial(dw.Start, outputs, inputs));
        dx.AssertExactly(dxExpected, "dx");
        dw.AssertExactly(dwExpected, "dw");
    }

    [Fact]
    public void The_gradient_goes_through_gelu_on_its_way_out_and_by_itself()
    {
        (int rows, int inputs, int outputs) = (21, 40, 56);
        RandomData data = new(5);
        using DeviceTensor<FP32> dy = new(device, data.Uniform(rows * outputs), rows, outputs), w = new(device, data.Uniform(outputs * inputs), outputs, inputs),
            saved = new(device, data.Uniform(rows * inputs, 4), rows, inputs), dx = new(device, rows, inputs), dx2 = new(device, rows, inputs);
        (double[] expected, _, _) = LinearReference.Backward(dy.ToDoubles(), new double[rows * inputs], w.ToDoubles(), null, rows, inputs, outputs);
        using DeviceTensor<FP32> plain = new(device, expected, rows, inputs);
        double[] pre = saved.ToDoubles();
        for (int i = 0; i < expected.Length; i++) expected[i] *= ActivationReference.GeluDerivative(pre[i]);
        Linear.BackwardInput(device, new(rows, inputs, outputs), dy.Matrix, w.Matrix, saved.Matrix, accumulate: false, dx.Matrix, NoWorkspace);
        dx.AssertNear(expected, what: "fused");
        Linear.BackwardActivation(device, rows, inputs, LinearActivation.Gelu, plain.Matrix, saved.Matrix, dx2.Matrix);
        dx2.AssertNear(expected, what: "apart");
    }

    [Fact]
    public void Tanh_gradients_come_from_the_output()
    {
        RandomData data = new(6);
        using DeviceTensor<BF16> dy = new(device, data.Uniform(3 * 19), 3, 19), y = new(device, data.Uniform(3 * 19), 3, 19), dx = new(device, 3, 19);
        Linear.BackwardActivation(device, 3, 19, LinearActivation.Tanh, dy.Matrix, y.Matrix, dx.Matrix);
        dx.AssertNear([.. dy.ToDoubles().Zip(y.ToDoubles(), (d, t) => d * (1 - (t * t)))]);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(70, 13)]
    [InlineData(333, 264)]
    public void Bias_gradients_are_column_sums_added_to_what_was_there(int rows, int columns)
    {
        RandomData data = new(7);
        using DeviceTensor<BF16> dy = new(device, data.Integers(rows * columns, 8), rows, columns);
        using DeviceTensor<FP32> bias = new(device, data.Integers(columns, 8), 1, columns), work = new(device, 16, columns, padding: 0);
        double[] expected = bias.ToDoubles(), values = dy.ToDoubles();
        for (int i = 0; i < values.Length; i++) expected[i % columns] += values[i];
        Linear.BackwardBias(device, rows, columns, dy.Matrix, bias.Start, new Workspace(work.Start, 16L * columns));
        bias.AssertExactly(expected);
    }

    [Fact]
    public void A_rerun_is_bit_equal()
    {
        RandomData data = new(8);
        using DeviceTensor<BF16> x = new(device, data.Uniform(9 * 1024), 9, 1024), w = new(device, data.Uniform(16 * 1024), 16, 1024);
        using DeviceTensor<BF16> y = new(device, 9, 16), again = new(device, 9, 16);
        using DeviceTensor<FP32> work = new(device, 1, 4096);
        foreach (DeviceTensor<BF16> result in new[] { y, again })
            Linear.Forward(device, new(9, 1024, 16), x.Matrix, w.Matrix, default, LinearActivation.None, default, default, result.Matrix, new(work.Start, 4096));
        Tolerance.AssertBitEqual(again.ToArray(), y.ToArray());
    }

    [Fact]
    public void Sizes_that_are_not_positive_are_refused() => Assert.Throws<ArgumentException>(() =>
        Linear.Forward<BF16>(device, new(0, 8, 8), default, default, default, LinearActivation.None, default, default, default, default));

    private void ForwardOfIntegers<T>(int rows, int inputs, int outputs) where T : unmanaged, IElement
    {
        RandomData data = new(rows);
        using DeviceTensor<T> x = Tensor<T>(data.Integers(rows * inputs, 2), rows, inputs), w = Tensor<T>(data.Integers(outputs * inputs, 1), outputs, inputs),
            bias = Tensor<T>(data.Integers(outputs, 9), 1, outputs), residual = Tensor<T>(data.Integers(rows * outputs, 9), rows, outputs), y = new(device, rows, outputs);
        Linear.Forward(device, new(rows, inputs, outputs), x.Matrix, w.Matrix, bias.Start, LinearActivation.None, default, residual.Matrix, y.Matrix, NoWorkspace);
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), bias.ToDoubles(), rows, inputs, outputs,
            BgeMetal.Kernels.Cpu.LinearEpilogue.Residual, residual.ToDoubles()));
    }

    private void BackwardOfIntegers<T>(int rows, int inputs, int outputs) where T : unmanaged, IElement
    {
        RandomData data = new(rows + 1);
        using DeviceTensor<T> x = Tensor<T>(data.Integers(rows * inputs, 2), rows, inputs), w = Tensor<T>(data.Integers(outputs * inputs, 1), outputs, inputs),
            dy = Tensor<T>(data.Integers(rows * outputs, 1), rows, outputs), dx = new(device, rows, inputs), sum = Tensor<T>(data.Integers(rows * inputs, 5), rows, inputs);
        using DeviceTensor<FP32> dw = new(device, data.Integers(outputs * inputs, 5), outputs, inputs);
        (double[] dxExpected, double[] dwExpected, _) = LinearReference.Backward(dy.ToDoubles(), x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs);
        double[] dwBefore = dw.ToDoubles(), sumBefore = sum.ToDoubles();
        LinearShape shape = new(rows, inputs, outputs);
        Linear.BackwardInput(device, shape, dy.Matrix, w.Matrix, default, accumulate: false, dx.Matrix, NoWorkspace);
        Linear.BackwardInput(device, shape, dy.Matrix, w.Matrix, default, accumulate: true, sum.Matrix, NoWorkspace);
        Linear.BackwardWeight(device, shape, dy.Matrix, x.Matrix, dw.Matrix, NoWorkspace);
        dx.AssertExactly(dxExpected, "dx");
        sum.AssertExactly([.. dxExpected.Zip(sumBefore, (a, b) => a + b)], "accumulated dx");
        dw.AssertExactly([.. dwExpected.Zip(dwBefore, (a, b) => a + b)], "dw");
    }

    private void Activated<T>(int rows, int inputs, int outputs, LinearActivation activation) where T : unmanaged, IElement
    {
        RandomData data = new(11);
        using DeviceTensor<T> x = Tensor<T>(data.Uniform(rows * inputs), rows, inputs), w = Tensor<T>(data.Uniform(outputs * inputs, 0.4), outputs, inputs),
            bias = Tensor<T>(data.Uniform(outputs), 1, outputs), pre = new(device, rows, outputs), y = new(device, rows, outputs);
        Linear.Forward(device, new(rows, inputs, outputs), x.Matrix, w.Matrix, bias.Start, activation,
            activation == LinearActivation.Gelu ? pre.Matrix : default, default, y.Matrix, NoWorkspace);
        double[] expected = LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), bias.ToDoubles(), rows, inputs, outputs);
        if (activation == LinearActivation.Gelu) pre.AssertNear(expected, what: $"{T.DType} pre-activation");
        y.AssertNear([.. expected.Select(v => activation == LinearActivation.Gelu ? ActivationReference.Gelu(v) : Math.Tanh(v))], what: $"{T.DType} output");
    }

    private void SplitProduct<T>(int rows, int inputs, int outputs, int workspaceRows, bool expectSplits) where T : unmanaged, IElement
    {
        RandomData data = new(12);
        using DeviceTensor<T> x = Tensor<T>(data.Integers(rows * inputs, 1), rows, inputs), w = Tensor<T>(data.Integers(outputs * inputs, 1), outputs, inputs),
            y = new(device, rows, outputs);
        using DeviceTensor<FP32> work = new(device, Math.Max(workspaceRows, 1), rows * outputs, padding: 0);
        Workspace workspace = new(work.Start, (long)workspaceRows * rows * outputs);
        Assert.Equal(expectSplits, GemmPlan.Choose<T, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, workspace).Splits > 1);
        Linear.Forward(device, new(rows, inputs, outputs), x.Matrix, w.Matrix, default, LinearActivation.None, default, default, y.Matrix, workspace);
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs), $"{T.DType}");
    }

    // Small odd widths get odd strides, so that the paths without 16-byte alignment are taken too.
    private DeviceTensor<T> Tensor<T>(double[] values, int rows, int columns) where T : unmanaged, IElement =>
        new(device, values, rows, columns, padding: columns % 8 == 0 ? 8 : 3);
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedLinearTests(EmulationFixture fixture) : LinearTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuLinearTests(GpuFixture fixture) : LinearTests(fixture.DeviceOrSkip());

/// <summary>On a GPU with kernels of its own, by those of every GPU.</summary>
[Collection("gpu")]
public sealed class GpuPortableLinearTests(GpuFixture fixture) : LinearTests(fixture.PortableOrSkip());
