using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Global norm, AdamW and conversions, on whatever device a derived class supplies.</summary>
public abstract class OptimizerTests(KernelDevice device)
{
    [Theory]
    [InlineData(1, 0, 1)]
    [InlineData(13, 0.5, 1)]
    [InlineData(5003, 1, 128)]
    public void The_norm_the_clipping_and_the_loss_scale_agree_with_the_formula(int count, float maxNorm, float lossScale)
    {
        using DeviceTensor<FP32> gradient = new(device, new RandomData(count).Uniform(count), 1, count), scale = new(device, [lossScale], 1, 1),
            result = new(device, 1, 3), work = new(device, 1, GlobalNorm.WorkspaceLength);
        GlobalNorm.Compute(device, gradient.Start, count, scale.Start, maxNorm, result.Start, new(work.Start, GlobalNorm.WorkspaceLength));
        double norm = Math.Sqrt(gradient.ToDoubles().Sum(g => g * g)) / lossScale;
        double factor = (maxNorm > 0 ? Math.Min(1, maxNorm / (norm + 1e-6)) : 1) / lossScale;
        float[] actual = result.ToArray();
        Assert.Equal(norm, actual[GlobalNorm.NormIndex], norm * 1e-5);
        Assert.Equal(factor, actual[GlobalNorm.FactorIndex], factor * 1e-5);
        Assert.Equal(0, actual[GlobalNorm.SkipIndex]);
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void One_gradient_that_is_not_finite_skips_the_step(double bad)
    {
        double[] values = new RandomData(1).Uniform(3000);
        values[2999] = bad;
        using DeviceTensor<FP32> gradient = new(device, values, 1, 3000), result = new(device, 1, 3), work = new(device, 1, GlobalNorm.WorkspaceLength);
        GlobalNorm.Compute(device, gradient.Start, 3000, default, 1, result.Start, new(work.Start, GlobalNorm.WorkspaceLength));
        Assert.Equal([0f, 1f], result.ToArray()[1..]);
    }

    [Fact]
    public void Three_steps_of_AdamW_follow_the_algorithm_and_decay_only_where_told()
    {
        const int count = 2061;
        int[] ends = [16, 1024, count], decays = [1, 0, 1];
        RandomData data = new(3);
        double[] parameters = data.Uniform(count), m = new double[count], v = new double[count];
        using DeviceTensor<FP32> master = new(device, parameters, 1, count), first = new(device, m, 1, count), second = new(device, v, 1, count),
            schedule = new(device, 1, 3), norm = new(device, [0, 0.5, 0], 1, 3);
        using DeviceTensor<BF16> copy = new(device, 1, count);
        using DeviceMemory spanEnds = device.Allocate(12), spanDecays = device.Allocate(12);
        device.Upload<int>(ends, new(spanEnds.Address));
        device.Upload<int>(decays, new(spanDecays.Address));
        AdamWOptions options = new(WeightDecay: 0.1);
        parameters = master.ToDoubles();
        for (int step = 1; step <= 3; step++)
        {
            using DeviceTensor<FP32> gradient = new(device, data.Uniform(count), 1, count);
            double[] g = gradient.ToDoubles();
            float rate = 0.01f / step, one = (float)(1 / (1 - Math.Pow(options.Beta1, step))), two = (float)(1 / (1 - Math.Pow(options.Beta2, step)));
            device.Upload<float>([rate, one, two], new(schedule.Start.Address));
            AdamW.Step(device, new AdamWState(master.Start, gradient.Start, first.Start, second.Start, count, new(spanEnds.Address), new(spanDecays.Address), 3),
                options, schedule.Start, norm.Start, copy.Start);
            for (int i = 0; i < count; i++)
            {
                double scaled = g[i] * 0.5;
                m[i] = (options.Beta1 * m[i]) + ((1 - options.Beta1) * scaled);
                v[i] = (options.Beta2 * v[i]) + ((1 - options.Beta2) * scaled * scaled);
                if (decays[Array.FindIndex(ends, end => i < end)] == 1) parameters[i] -= rate * options.WeightDecay * parameters[i];
                parameters[i] -= rate * m[i] * one / (Math.Sqrt(v[i] * two) + options.Epsilon);
            }
        }
        master.AssertNear(parameters, what: "master");
        first.AssertNear(m, floor: 5e-7, what: "m");
        // 1 - 0.999 formed in binary32 would be off by 1.3e-5.
        second.AssertNear(v, floor: 5e-7, what: "v");
        copy.AssertExactly([.. master.ToArray().Select(p => (double)BF16.FromBits(BF16.ToBits(p)))], "copy");
    }

    [Fact]
    public void A_skipped_step_changes_nothing()
    {
        using DeviceTensor<FP32> master = new(device, [1, 2, 3], 1, 3), other = new(device, [1, 1, 1], 1, 3), schedule = new(device, [1, 1, 1], 1, 3),
            norm = new(device, [0, 0, 1], 1, 3);
        AdamW.Step<BF16>(device, new AdamWState(master.Start, other.Start, other.Start, other.Start, 3, default, default, 0), new(), schedule.Start, norm.Start, default);
        master.AssertExactly([1, 2, 3]);
    }

    [Fact]
    public void Conversions_round_to_nearest_even_and_back_exactly()
    {
        double[] values = [.. new RandomData(4).Uniform(2045, 3), 1.00390625, 1.01171875, -65504, 0, 1e-8];
        Convert<BF16>(values);
        Convert<FP16>(values);
    }

    private void Convert<T>(double[] values) where T : unmanaged, IElement
    {
        using DeviceTensor<FP32> source = new(device, values, 1, values.Length), back = new(device, 1, values.Length);
        using DeviceTensor<T> target = new(device, 1, values.Length);
        Cast.Convert(device, source.Start, target.Start, values.Length);
        Cast.Convert(device, target.Start, back.Start, values.Length);
        double[] expected = [.. source.ToArray().Select(v => (double)T.FromBits(T.ToBits(v)))];
        target.AssertExactly(expected);
        back.AssertExactly(expected);
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedOptimizerTests(EmulationFixture fixture) : OptimizerTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuOptimizerTests(GpuFixture fixture) : OptimizerTests(fixture.DeviceOrSkip());
