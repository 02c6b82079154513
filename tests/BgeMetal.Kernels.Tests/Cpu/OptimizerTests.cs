using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>AdamW, gradient norm, finiteness and scaling.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class OptimizerTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(17)]
    [InlineData(33_001)]
    public void Ten_steps_of_AdamW_agree_with_the_oracle(int count) => CpuKernels.AtEachWidth(width =>
    {
        const double lr = 1e-2, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.01;
        double[] start = new RandomData(1).Uniform(count), p = [.. start], m = new double[count], v = new double[count];
        using PaddedMatrix weights = new(start, 1, count), first = new(new double[count], 1, count), second = new(new double[count], 1, count);
        for (int step = 1; step <= 10; step++)
        {
            double[] grad = new RandomData(step).Uniform(count, 4);
            AdamWReference.Step(p, [.. grad.Select(g => g * 0.25)], m, v, lr, beta1, beta2, epsilon, decay, step);
            using PaddedMatrix gradient = new(grad, 1, count);
            AdamW.Step(WorkerTeam.Single, weights.Data, gradient.Data, first.Data, second.Data, 0, count, lr, beta1, beta2, epsilon, decay,
                1 - Math.Pow(beta1, step), 1 - Math.Pow(beta2, step), 0.25f);
            gradient.AssertPaddingUntouched();
        }
        foreach (PaddedMatrix result in new[] { weights, first, second }) result.AssertPaddingUntouched();
        Tolerance.AssertNorm(weights.ToArray(), p, 1e-6, $"{width}: weights");
        Tolerance.AssertNorm(first.ToArray(), m, 1e-6, $"{width}: first moments");
        Tolerance.AssertNorm(second.ToArray(), v, 1e-6, $"{width}: second moments");
    });

    [Fact]
    public void A_range_of_a_step_changes_nothing_else_and_has_the_bits_of_the_whole_for_any_team()
    {
        const int count = 70_003;
        RandomData data = new(4);
        double[] p = data.Uniform(count), g = data.Uniform(count), m = data.Uniform(count), v = [.. data.Uniform(count).Select(Math.Abs)];
        float[] whole = Step(WorkerTeam.Single, [(0, count)]);
        CpuKernels.AssertSameForAnyTeam(team => Step(team, [(0, 5), (5, 33), (38, count - 38)]));
        Tolerance.AssertBitEqual(Step(WorkerTeam.Single, [(0, 5), (5, 33), (38, count - 38)]), whole);
        float[] part = Step(WorkerTeam.Single, [(100, 17)]);
        for (int i = 0; i < count; i++) Assert.True(part[i] == (i is >= 100 and < 117 ? whole[i] : (float)p[i]), $"element {i}");

        float[] Step(WorkerTeam team, (int Start, int Count)[] ranges)
        {
            using PaddedMatrix weights = new(p, 1, count), gradient = new(g, 1, count), first = new(m, 1, count), second = new(v, 1, count);
            foreach ((int start, int length) in ranges)
                AdamW.Step(team, weights.Data, gradient.Data, first.Data, second.Data, start, length, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.25, 0.5f);
            return weights.ToArray();
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(37)]
    [InlineData(200_003)]
    public void The_sum_of_squares_is_that_of_double_precision_for_any_team(int count)
    {
        double[] values = new RandomData(count).Uniform(count, 1e-3);
        double expected = values.Sum(v => v * v);
        using PaddedMatrix x = new(values, 1, count);
        double alone = GlobalNorm.SumOfSquares(WorkerTeam.Single, x.Data, count);
        Assert.Equal(expected, alone, 1e-13 * expected);
        using WorkerTeam two = new(2), three = new(3);
        Assert.Equal(alone, GlobalNorm.SumOfSquares(two, x.Data, count));
        Assert.Equal(alone, GlobalNorm.SumOfSquares(three, x.Data, count));
    }

    [Fact]
    public void One_element_that_is_not_finite_is_found_anywhere()
    {
        const int count = 70_001;
        using PaddedMatrix x = new(new RandomData(1).Uniform(count, 3e38), 1, count);
        using WorkerTeam team = new(2);
        Assert.True(GlobalNorm.AllFinite(team, x.Data, count));
        Assert.True(GlobalNorm.AllFinite(team, x.Data, 0));
        foreach (int at in new[] { 0, 7, 15, 16, 65_535, 65_536, 70_000 })
        {
            foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
            {
                float kept = x.Data[at];
                x.Data[at] = bad;
                Assert.False(GlobalNorm.AllFinite(team, x.Data, count), $"{bad} at {at}");
                x.Data[at] = kept;
            }
        }
    }

    [Fact]
    public void Scaling_touches_every_element_once() => CpuKernels.AtEachWidth(width =>
    {
        const int count = 140_003;
        double[] values = new RandomData(2).Uniform(count);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            using PaddedMatrix x = new(values, 1, count);
            GlobalNorm.Scale(team, x.Data, count, 0.3f);
            x.AssertPaddingUntouched();
            Tolerance.AssertBitEqual(x.ToArray(), [.. values.Select(v => (float)v * 0.3f)], width);
            return x.ToArray();
        });
    });

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new double[100], 1, 100);
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            AdamW.Step(team, x.Data, x.Data, x.Data, x.Data, 0, 100, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.25, 0.5f);
            GlobalNorm.SumOfSquares(team, x.Data, 100);
            GlobalNorm.AllFinite(team, x.Data, 100);
            GlobalNorm.Scale(team, x.Data, 100, 0.5f);
        }));
    }
}
