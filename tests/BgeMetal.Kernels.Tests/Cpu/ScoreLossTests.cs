using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Losses over score matrices: groups and distillation.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class ScoreLossTests
{
    public static TheoryData<int, int> Shapes => new() { { 1, 1 }, { 1, 8 }, { 3, 2 }, { 7, 17 }, { 130, 4 }, { 5, 1023 } };

    // rows, group size, whether all groups of the batch are columns.
    public static TheoryData<int, int, bool> Groups => new()
    {
        { 1, 1, true }, { 1, 4, false }, { 3, 2, true }, { 4, 4, true }, { 4, 4, false }, { 17, 8, true }, { 31, 3, true }, { 130, 2, false },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Cross_entropy_agrees_with_the_oracle(int rows, int cols)
    {
        RandomData data = new(rows + cols);
        double[] logits = data.Uniform(rows * cols, 5), before = data.Uniform(rows * cols);
        foreach (int[]? targets in new[] { null, data.Indices(rows, cols) })
        {
            (double loss, double[] gradient, double[] rowLoss) = CrossEntropyReference.Hard(logits, cols, targets ?? new int[rows]);
            CpuKernels.AssertSameForAnyTeam(team =>
            {
                fixed (int* labels = targets)
                {
                    using PaddedMatrix x = new(logits, rows, cols), losses = new(1, rows), dx = new(rows, cols, 3), added = new(before, rows, cols, 3);
                    float mean = SoftmaxCrossEntropy.Forward(team, x.Data, x.Stride, rows, cols, labels, losses.Data);
                    SoftmaxCrossEntropy.Backward(team, x.Data, x.Stride, rows, cols, labels, 2f, dx.Data, dx.Stride, false);
                    SoftmaxCrossEntropy.Backward(team, x.Data, x.Stride, rows, cols, labels, 2f, added.Data, added.Stride, true);
                    Check([x, losses, dx, added], mean, loss, dx, [.. gradient.Select(g => 2 * g)]);
                    Assert.True(Tolerance.MaxError(losses.ToArray(), rowLoss) <= 1e-5);
                    Tolerance.AssertNorm(added.ToArray(), [.. gradient.Zip(before, (g, b) => (2 * g) + b)]);
                    return [mean, .. losses.ToArray(), .. dx.ToArray()];
                }
            });
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Soft_targets_agree_with_the_oracle(int rows, int cols)
    {
        RandomData data = new(rows + cols);
        double[] logits = data.Uniform(rows * cols, 5), targets = [.. data.Uniform(rows * cols).Select(Math.Abs)];
        (double loss, double[] gradient) = CrossEntropyReference.Soft(logits, cols, targets, cols, new int[rows]);
        using PaddedMatrix x = new(logits, rows, cols), t = new(targets, rows, cols, 2), losses = new(1, rows), dx = new(rows, cols, 3);
        float mean = SoftmaxCrossEntropy.ForwardSoft(WorkerTeam.Single, x.Data, x.Stride, rows, cols, t.Data, t.Stride, losses.Data);
        SoftmaxCrossEntropy.BackwardSoft(WorkerTeam.Single, x.Data, x.Stride, rows, cols, t.Data, t.Stride, 1f, dx.Data, dx.Stride, false);
        Check([x, losses, dx], mean, loss, dx, gradient);
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public void Distillation_agrees_with_the_oracle(int rows, int groupSize, bool allGroups)
    {
        const double teacherTemperature = 0.5, studentTemperature = 2;
        int columns = allGroups ? rows * groupSize : groupSize;
        RandomData data = new(rows + groupSize);
        double[] scores = data.Uniform(rows * columns, 20), teacher = data.Uniform(rows * groupSize, 3);
        double[] cooled = [.. scores.Select(s => s / studentTemperature)];
        double[] targets = [.. Enumerable.Range(0, rows).SelectMany(r =>
            CrossEntropyReference.LogSoftmax([.. teacher.AsSpan(r * groupSize, groupSize).ToArray().Select(s => s / teacherTemperature)]).Select(Math.Exp))];
        int[] first = [.. Enumerable.Range(0, rows).Select(r => allGroups ? r * groupSize : 0)];
        double entropy = -targets.Sum(t => t * Math.Log(t)) / rows;
        foreach (DistillationLoss form in Enum.GetValues<DistillationLoss>())
        {
            if (form == DistillationLoss.Staircase && !allGroups) continue;
            (double loss, double[] gradient) = form == DistillationLoss.Staircase
                ? CrossEntropyReference.Staircase(cooled, columns, targets, groupSize) : CrossEntropyReference.Soft(cooled, columns, targets, groupSize, first);
            if (form == DistillationLoss.Divergence) loss -= entropy;
            CpuKernels.AssertSameForAnyTeam(team =>
            {
                using PaddedMatrix x = new(scores, rows, columns), t = new(teacher, rows, groupSize), losses = new(1, rows), dx = new(rows, columns, 3);
                float mean = KlDivergence.Forward(form, team, x.Data, x.Stride, rows, columns, t.Data, t.Stride, groupSize, (float)teacherTemperature,
                    (float)studentTemperature, losses.Data);
                KlDivergence.Backward(form, team, x.Data, x.Stride, rows, columns, t.Data, t.Stride, groupSize, (float)teacherTemperature,
                    (float)studentTemperature, 1f, dx.Data, dx.Stride, false);
                Check([x, losses, dx], mean, loss, dx, [.. gradient.Select(g => g / studentTemperature)], form.ToString());
                return [mean, .. dx.ToArray()];
            });
        }
    }

    [Fact]
    public void Scores_far_apart_neither_overflow_nor_vanish()
    {
        double[] scores = [3000, -3000, 0, 2999, -3000, 3000, 1, 2];
        (double loss, double[] gradient) = CrossEntropyReference.Staircase(scores, 4, [0.25, 0.75, 0.5, 0.5], 2);
        using PaddedMatrix x = new(scores, 2, 4), t = new([Math.Log(1), Math.Log(3), 0, 0], 2, 2), losses = new(1, 2), dx = new(2, 4);
        float mean = KlDivergence.Forward(DistillationLoss.Staircase, WorkerTeam.Single, x.Data, x.Stride, 2, 4, t.Data, t.Stride, 2, 1f, 1f, losses.Data);
        KlDivergence.Backward(DistillationLoss.Staircase, WorkerTeam.Single, x.Data, x.Stride, 2, 4, t.Data, t.Stride, 2, 1f, 1f, 1f, dx.Data, dx.Stride, false);
        Check([x, losses, dx], mean, loss, dx, gradient);
    }

    [Fact]
    public void Impossible_arguments_are_refused()
    {
        using PaddedMatrix x = new(new double[6], 3, 2), losses = new(1, 3);
        int* targets = stackalloc int[] { 0, 2, 0 };
        nint at = (nint)targets;
        Assert.Throws<ArgumentOutOfRangeException>(() => SoftmaxCrossEntropy.Forward(WorkerTeam.Single, x.Data, x.Stride, 3, 2, (int*)at, losses.Data));
        Assert.Throws<ArgumentOutOfRangeException>(() => KlDivergence.Forward(
            DistillationLoss.Divergence, WorkerTeam.Single, x.Data, x.Stride, 3, 2, x.Data, x.Stride, 1, 1f, 1f, losses.Data));
        Assert.Throws<ArgumentOutOfRangeException>(() => KlDivergence.Forward(
            DistillationLoss.Divergence, WorkerTeam.Single, x.Data, x.Stride, 3, 2, x.Data, x.Stride, 2, 0f, 1f, losses.Data));
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 80), 40, 80), dx = new(40, 80), losses = new(1, 40);
        using WorkerTeam team = new(2);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            SoftmaxCrossEntropy.Forward(team, x.Data, x.Stride, 40, 80, null, losses.Data);
            SoftmaxCrossEntropy.Backward(team, x.Data, x.Stride, 40, 80, null, 1f, dx.Data, dx.Stride, false);
            KlDivergence.Forward(DistillationLoss.Staircase, team, x.Data, x.Stride, 40, 80, x.Data, x.Stride, 2, 1f, 1f, losses.Data);
            KlDivergence.Backward(DistillationLoss.Staircase, team, x.Data, x.Stride, 40, 80, x.Data, x.Stride, 2, 1f, 1f, 1f, dx.Data, dx.Stride, true);
        }));
    }

    private static void Check(PaddedMatrix[] untouched, float mean, double loss, PaddedMatrix gradient, double[] expected, string what = "gradient")
    {
        foreach (PaddedMatrix matrix in untouched) matrix.AssertPaddingUntouched();
        Assert.Equal(loss, mean, 2e-6 * Math.Max(1, Math.Abs(loss)));
        if (expected.All(g => Math.Abs(g) < 1e-12)) Assert.True(Tolerance.MaxError(gradient.ToArray(), expected) < 1e-7, what);
        else Tolerance.AssertNorm(gradient.ToArray(), expected, what: what);
    }
}
