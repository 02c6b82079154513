using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The masked-LM loss and its gradients against the oracle, on whatever device a derived class supplies.</summary>
public abstract class LinearCrossEntropyTests(KernelDevice device)
{
    private const int None = -100;

    /// <summary>Rows, dim, vocabulary: one row, odd rows, a tile and its neighbours, vocabularies that end anywhere in a tile.</summary>
    public static TheoryData<int, int, int> Shapes => new() { { 1, 8, 97 }, { 7, 24, 33 }, { 33, 16, 129 }, { 65, 8, 63 } };

    [Theory, MemberData(nameof(Shapes))]
    public void Bf16_losses_and_gradients_agree_with_the_oracle(int rows, int dim, int vocabulary) => Agrees<BF16>(rows, dim, vocabulary, labelled: true);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp32_losses_and_gradients_agree_with_the_oracle(int rows, int dim, int vocabulary) => Agrees<FP32>(rows, dim, vocabulary, labelled: true);

    [Fact]
    public void Fp16_losses_and_gradients_agree_with_the_oracle() => Agrees<FP16>(3, 8, 1000, labelled: true);

    [Fact]
    public void Widths_that_tensor_cores_cannot_take_agree_too() => Agrees<BF16>(5, 7, 33, labelled: true);

    [Fact]
    public void The_large_tile_agrees_too() => Agrees<BF16>(70, 8, 390, labelled: true);

    [Fact]
    public void Rows_without_a_label_cost_nothing_and_get_no_gradient() => Agrees<BF16>(19, 8, 97, labelled: false);

    [Fact]
    public void The_smallest_workspace_takes_the_vocabulary_in_pieces()
    {
        LinearCrossEntropyShape shape = new(70, 16, 300);
        Agrees<BF16>(shape.Rows, shape.Dim, shape.Vocabulary, labelled: true, LinearCrossEntropy.MinimumWorkspace<BF16>(shape));
        shape = new(3, 9, 261);
        Agrees<FP32>(shape.Rows, shape.Dim, shape.Vocabulary, labelled: true, LinearCrossEntropy.MinimumWorkspace<FP32>(shape));
    }

    [Fact]
    public void Without_any_label_loss_and_gradients_are_zero()
    {
        using Case<BF16> all = new(device, 3, 8, 33, _ => None);
        all.Run();
        Assert.Equal(0f, all.Result.ToArray()[LinearCrossEntropy.MeanIndex]);
        all.Dx.AssertExactly(all.DxBefore);
        all.DWeight.AssertExactly(all.DWeightBefore);
    }

    [Fact]
    public void A_label_beyond_the_vocabulary_shows_in_the_loss()
    {
        using Case<BF16> all = new(device, 2, 8, 33, row => row == 0 ? 5 : 33);
        all.Run();
        Assert.Equal([false, true], all.RowLoss.ToArray().Select(float.IsNaN));
        Assert.True(float.IsNaN(all.Result.ToArray()[LinearCrossEntropy.MeanIndex]));
    }

    [Fact]
    public void A_rerun_is_bit_equal()
    {
        using Case<BF16> one = new(device, 34, 24, 150, row => row), other = new(device, 34, 24, 150, row => row);
        one.Run();
        other.Run();
        Tolerance.AssertBitEqual(other.Result.ToArray(), one.Result.ToArray());
        Tolerance.AssertBitEqual(other.Dx.ToArray(), one.Dx.ToArray());
        Tolerance.AssertBitEqual(other.DWeight.ToArray(), one.DWeight.ToArray());
        Tolerance.AssertBitEqual(other.DBias.ToArray(), one.DBias.ToArray());
    }

    [Fact]
    public void A_workspace_that_is_too_small_is_refused()
    {
        using Case<BF16> all = new(device, 2, 8, 33, _ => 0, LinearCrossEntropy.MinimumWorkspace<BF16>(new(2, 8, 33)) - 1);
        Assert.Throws<ArgumentException>(all.Run);
    }

    private void Agrees<T>(int rows, int dim, int vocabulary, bool labelled, long workspace = 1 << 20) where T : unmanaged, IElement
    {
        using Case<T> all = new(device, rows, dim, vocabulary, row => !labelled && row % 3 == 1 ? None : (row * 37) % vocabulary, workspace);
        all.Run();
        all.AssertAgrees();
    }

    /// <summary>One problem on the device, with poisoned outputs and gradients that are added to.</summary>
    private sealed class Case<T> : IDisposable where T : unmanaged, IElement
    {
        private readonly KernelDevice _device;
        private readonly int[] _labels;
        private readonly DeviceTensor<T> _x, _weight, _bias;
        private readonly DeviceTensor<FP32> _logSumExp, _lossGradient, _work;
        private readonly DeviceMemory _labelMemory;
        private readonly LinearCrossEntropyShape _shape;
        private readonly long _workspace;

        public Case(KernelDevice device, int rows, int dim, int vocabulary, Func<int, int> label, long workspace = 1 << 20)
        {
            (_device, _shape, _workspace) = (device, new(rows, dim, vocabulary), workspace);
            RandomData data = new(rows + vocabulary);
            int padding = dim % 8 == 0 ? 8 : 3;
            _x = new(device, data.Uniform(rows * dim, 2), rows, dim, padding);
            _weight = new(device, data.Uniform(vocabulary * dim), vocabulary, dim, padding);
            _bias = new(device, data.Uniform(vocabulary), 1, vocabulary);
            _logSumExp = new(device, 1, rows);
            _lossGradient = new(device, [2.5], 1, 1);
            _work = new(device, 1, (int)Math.Max(workspace, 1), padding: 0);
            RowLoss = new(device, 1, rows);
            Result = new(device, 1, LinearCrossEntropy.ResultLength);
            Dx = new(device, data.Uniform(rows * dim), rows, dim, padding);
            DWeight = new(device, data.Uniform(vocabulary * dim, 0.1), vocabulary, dim, padding);
            DBias = new(device, data.Uniform(vocabulary, 0.1), 1, vocabulary);
            (DxBefore, DWeightBefore, DBiasBefore) = (Dx.ToDoubles(), DWeight.ToDoubles(), DBias.ToDoubles());
            _labels = [.. Enumerable.Range(0, rows).Select(label)];
            _labelMemory = device.Allocate(rows * 4L);
            device.Upload<int>(_labels, new(_labelMemory.Address));
        }

        public DeviceTensor<FP32> RowLoss { get; }

        public DeviceTensor<FP32> Result { get; }

        public DeviceTensor<T> Dx { get; }

        public DeviceTensor<FP32> DWeight { get; }

        public DeviceTensor<FP32> DBias { get; }

        public double[] DxBefore { get; }

        public double[] DWeightBefore { get; }

        public double[] DBiasBefore { get; }

        public void Run()
        {
            DevicePointer<int> labels = new(_labelMemory.Address);
            Workspace workspace = new(_work.Start, _workspace);
            LinearCrossEntropy.Forward(_device, _shape, _x.Matrix, _weight.Matrix, _bias.Start, labels, RowLoss.Start, _logSumExp.Start, Result.Start, workspace);
            LinearCrossEntropy.Backward(_device, _shape, _x.Matrix, _weight.Matrix, _bias.Start, labels, _logSumExp.Start, Result.Start, _lossGradient.Start,
                Dx.Matrix, accumulateDx: true, DWeight.Matrix, DBias.Start, workspace);
        }

        public void AssertAgrees()
        {
            (int rows, int dim, int vocabulary) = _shape;
            double[] x = _x.ToDoubles(), weight = _weight.ToDoubles(), logits = LinearReference.Forward(x, weight, _bias.ToDoubles(), rows, dim, vocabulary);
            (double loss, double[] gradient, double[] rowLoss) = CrossEntropyReference.Hard(logits, vocabulary, _labels);
            RowLoss.AssertNear(rowLoss, what: "row losses");
            Assert.Equal(loss, Result.ToArray()[LinearCrossEntropy.MeanIndex], 2e-6 * loss);
            for (int i = 0; i < gradient.Length; i++) gradient[i] *= 2.5;
            (double[] dx, double[] dWeight, double[] dBias) = LinearReference.Backward(gradient, x, weight, null, rows, dim, vocabulary);
            (double[] dxMost, double[] dWeightMost, double[] dBiasMost) = LinearReference.Backward(Absolute(gradient), Absolute(x), Absolute(weight), null, rows, dim, vocabulary);
            AssertWithinRounding(Dx, dx, dxMost, DxBefore, "dx");
            AssertWithinRounding(DWeight, dWeight, dWeightMost, DWeightBefore, "dweight");
            AssertWithinRounding(DBias, dBias, dBiasMost, DBiasBefore, "dbias");
        }

        // The gradient of the logits is rounded to the element type once; an error of a sum is at most that of its terms, added up.
        private static void AssertWithinRounding<TOutput>(DeviceTensor<TOutput> actual, double[] sum, double[] most, double[] before, string what) where TOutput : unmanaged, IElement
        {
            double term = Rounding<T>() + 4e-6, output = Rounding<TOutput>() + 2e-7;
            float[] values = actual.ToArray();
            for (int i = 0; i < values.Length; i++)
            {
                double expected = before[i] + sum[i], allowed = (term * most[i]) + (output * (Math.Abs(expected) + (term * most[i]))) + 1e-7;
                Assert.True(Math.Abs(values[i] - expected) <= allowed, $"{what} [{i / actual.Columns}, {i % actual.Columns}]: {values[i]:g9}, expected {expected:g9} within {allowed:g3}");
            }
            actual.AssertPaddingUntouched();
        }

        private static double Rounding<TElement>() where TElement : unmanaged, IElement =>
            TElement.DType switch { DType.BFloat16 => 1 / 256.0, DType.Float16 => 1 / 2048.0, _ => 0 };

        private static double[] Absolute(double[] values) => [.. values.Select(Math.Abs)];

        public void Dispose()
        {
            _labelMemory.Dispose();
            foreach (IDisposable tensor in new IDisposable[] { _x, _weight, _bias, _logSumExp, _lossGradient, _work, RowLoss, Result, Dx, DWeight, DBias }) tensor.Dispose();
        }
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedLinearCrossEntropyTests(EmulationFixture fixture) : LinearCrossEntropyTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxLinearCrossEntropyTests(PtxFixture fixture) : LinearCrossEntropyTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuLinearCrossEntropyTests(GpuFixture fixture) : LinearCrossEntropyTests(fixture.DeviceOrSkip());
