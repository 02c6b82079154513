using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Losses over rows of scores that exist, against the oracle, on whatever device a derived class supplies.</summary>
public abstract class ScoreLossTests(KernelDevice device)
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 8)]
    [InlineData(33, 2)]
    [InlineData(5, 65)]
    public void Cross_entropy_and_its_gradient_agree_with_the_oracle(int rows, int columns)
    {
        CrossEntropy<FP32>(rows, columns, firstColumn: true);
        CrossEntropy<BF16>(rows, columns, firstColumn: false);
        CrossEntropy<FP16>(rows, columns, firstColumn: false);
    }

    [Fact]
    public void Soft_targets_may_be_any_numbers()
    {
        RandomData data = new(2);
        double[] targets = [.. data.Uniform(3 * 40).Select(Math.Abs)];
        using DeviceTensor<FP32> scores = new(device, data.Uniform(3 * 40, 6), 3, 40), t = new(device, targets, 3, 40), dscores = new(device, 3, 40),
            rowLoss = new(device, 1, 3, 0), loss = new(device, 1, 1, 0);
        SoftmaxCrossEntropy.ForwardSoft(device, scores.Matrix, 3, 40, t.Matrix, rowLoss.Start, loss.Start);
        SoftmaxCrossEntropy.BackwardSoft(device, scores.Matrix, 3, 40, t.Matrix, 1f, dscores.Matrix, accumulate: false);
        (double expected, double[] gradient) = CrossEntropyReference.Soft(scores.ToDoubles(), 40, t.ToDoubles(), 40, [0, 0, 0]);
        loss.AssertNear([expected], 1e-5);
        dscores.AssertNear(gradient, 1e-5);
    }

    [Theory]
    [InlineData(DistillationLoss.CrossEntropy, 1, 1, false)]
    [InlineData(DistillationLoss.CrossEntropy, 5, 3, true)]
    [InlineData(DistillationLoss.Divergence, 7, 8, false)]
    [InlineData(DistillationLoss.Divergence, 3, 40, true)]
    [InlineData(DistillationLoss.Staircase, 1, 1, true)]
    [InlineData(DistillationLoss.Staircase, 7, 8, true)]
    [InlineData(DistillationLoss.Staircase, 2, 35, true)]
    [InlineData(DistillationLoss.Staircase, 1, 6, false)]
    public void Distillation_and_its_gradient_agree_with_the_oracle(DistillationLoss form, int rows, int groupSize, bool allGroups)
    {
        Distill<FP32>(form, rows, groupSize, allGroups);
        Distill<BF16>(form, rows, groupSize, allGroups);
    }

    [Fact]
    public void Scores_far_apart_neither_overflow_nor_vanish()
    {
        // The first column drowns all others by 200 nats: what is left of the staircase's later steps is far below binary32's smallest number beside it.
        double[] scores = [100, -100, -101, -99, -98, -102];
        using DeviceTensor<FP32> x = new(device, scores, 1, 6), t = new(device, [1, 2, 3], 1, 3), dx = new(device, 1, 6), rowLoss = new(device, 1, 1, 0), loss = new(device, 1, 1, 0);
        KlDivergence.Forward(DistillationLoss.Staircase, device, x.Matrix, 1, 6, t.Matrix, 3, 1, 1, rowLoss.Start, loss.Start);
        KlDivergence.Backward(DistillationLoss.Staircase, device, x.Matrix, 1, 6, t.Matrix, 3, 1, 1, 1f, dx.Matrix, accumulate: false);
        (double expected, double[] gradient) = CrossEntropyReference.Staircase(scores, 6, Softmax([1, 2, 3]), 3);
        loss.AssertNear([expected], 1e-5);
        dx.AssertNear(gradient, 2e-5);
    }

    [Fact]
    public void Gradients_are_scaled_from_the_device_and_added()
    {
        RandomData data = new(4);
        using DeviceTensor<FP32> x = new(device, data.Uniform(4 * 6, 3), 4, 6), dx = new(device, data.Uniform(4 * 6), 4, 6), scale = new(device, [8], 1, 1);
        double[] before = dx.ToDoubles();
        SoftmaxCrossEntropy.Backward(device, x.Matrix, 4, 6, default, new DeviceScalar(-0.25f, scale.Start), dx.Matrix, accumulate: true);
        double[] gradient = CrossEntropyReference.Hard(x.ToDoubles(), 6, new int[4]).Gradient;
        dx.AssertNear([.. gradient.Zip(before, (g, b) => b - (2 * g))], 1e-5);
    }

    [Fact]
    public void Sizes_and_temperatures_out_of_range_are_refused()
    {
        Assert.Throws<ArgumentException>(() => SoftmaxCrossEntropy.Forward<FP32>(device, default, 0, 4, default, default, default));
        Assert.Throws<ArgumentException>(() => KlDivergence.Forward<FP32>(DistillationLoss.Divergence, device, default, 3, 5, default, 2, 1, 1, default, default));
        Assert.Throws<ArgumentException>(() => KlDivergence.Forward<FP32>(DistillationLoss.Divergence, device, default, 3, 2, default, 2, 0, 1, default, default));
    }

    private void CrossEntropy<T>(int rows, int columns, bool firstColumn) where T : unmanaged, IElement
    {
        RandomData data = new(rows + columns);
        int[] targets = firstColumn ? new int[rows] : data.Indices(rows, columns);
        using DeviceTensor<T> logits = new(device, data.Uniform(rows * columns, 8), rows, columns), dlogits = new(device, rows, columns);
        using DeviceTensor<FP32> rowLoss = new(device, 1, rows, 0), loss = new(device, 1, 1, 0);
        using DeviceMemory labels = device.Allocate(rows * sizeof(int));
        device.Upload<int>(targets, new(labels.Address));
        DevicePointer<int> pointer = firstColumn ? default : new(labels.Address);
        SoftmaxCrossEntropy.Forward(device, logits.Matrix, rows, columns, pointer, rowLoss.Start, loss.Start);
        SoftmaxCrossEntropy.Backward(device, logits.Matrix, rows, columns, pointer, 1f, dlogits.Matrix, accumulate: false);
        (double expected, double[] gradient, double[] rowExpected) = CrossEntropyReference.Hard(logits.ToDoubles(), columns, targets);
        loss.AssertNear([expected], 1e-5, $"{T.DType} loss", 1e-6);
        rowLoss.AssertNear(rowExpected, 1e-5, $"{T.DType} loss of a row", 1e-6);
        dlogits.AssertNear(gradient, 1e-5, $"{T.DType} gradient", 1e-6 / rows);
    }

    private void Distill<T>(DistillationLoss form, int rows, int groupSize, bool allGroups) where T : unmanaged, IElement
    {
        const float teacherTemperature = 2f, studentTemperature = 0.5f;
        int columns = allGroups ? rows * groupSize : groupSize;
        RandomData data = new((rows * 10) + groupSize);
        using DeviceTensor<T> scores = new(device, data.Uniform(rows * columns, 4), rows, columns), dscores = new(device, rows, columns);
        using DeviceTensor<FP32> teacher = new(device, data.Uniform(rows * groupSize, 5), rows, groupSize), rowLoss = new(device, 1, rows, 0), loss = new(device, 1, 1, 0);
        KlDivergence.Forward(form, device, scores.Matrix, rows, columns, teacher.Matrix, groupSize, teacherTemperature, studentTemperature, rowLoss.Start, loss.Start);
        KlDivergence.Backward(form, device, scores.Matrix, rows, columns, teacher.Matrix, groupSize, teacherTemperature, studentTemperature, 1f, dscores.Matrix, accumulate: false);
        double[] x = [.. scores.ToDoubles().Select(v => v / studentTemperature)];
        double[] t = [.. Enumerable.Range(0, rows).SelectMany(b => Softmax([.. teacher.ToDoubles()[(b * groupSize)..((b + 1) * groupSize)].Select(v => v / teacherTemperature)]))];
        (double expected, double[] gradient) = form == DistillationLoss.Staircase ? CrossEntropyReference.Staircase(x, columns, t, groupSize)
            : CrossEntropyReference.Soft(x, columns, t, groupSize, [.. Enumerable.Range(0, rows).Select(b => allGroups ? b * groupSize : 0)]);
        if (form == DistillationLoss.Divergence) expected += t.Sum(v => v * Math.Log(v)) / rows;
        loss.AssertNear([expected], 2e-5, $"{T.DType} loss", 2e-6);
        dscores.AssertNear([.. gradient.Select(v => v / studentTemperature)], 2e-5, $"{T.DType} gradient", 2e-6 / rows);
    }

    private static double[] Softmax(double[] x) => [.. CrossEntropyReference.LogSoftmax(x).Select(Math.Exp)];
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedScoreLossTests(EmulationFixture fixture) : ScoreLossTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxScoreLossTests(PtxFixture fixture) : ScoreLossTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuScoreLossTests(GpuFixture fixture) : ScoreLossTests(fixture.DeviceOrSkip());
