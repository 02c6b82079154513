using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The contrastive loss and its gradients against the oracle, on whatever device a derived class supplies.</summary>
public abstract class InfoNceTests(KernelDevice device)
{
    private const float Temperature = 0.05f;

    /// <summary>Queries, group size, dimension: one of everything, odd counts, tiles and their neighbours, one stage of depth and two.</summary>
    public static TheoryData<int, int, int> Shapes => new() { { 1, 1, 8 }, { 1, 8, 64 }, { 7, 1, 96 }, { 7, 8, 40 }, { 33, 2, 64 }, { 65, 1, 40 }, { 65, 2, 8 } };

    [Theory, MemberData(nameof(Shapes))]
    public void Bf16_losses_and_gradients_agree_with_the_oracle(int queries, int groupSize, int dim) => InBatch<BF16>(queries, groupSize, dim);

    [Theory, MemberData(nameof(Shapes))]
    public void Fp32_losses_and_gradients_agree_with_the_oracle(int queries, int groupSize, int dim) => InBatch<FP32>(queries, groupSize, dim);

    [Fact]
    public void Fp16_losses_and_gradients_agree_with_the_oracle()
    {
        InBatch<FP16>(7, 2, 96);
        InBatch<FP16>(33, 8, 40);
    }

    [Fact]
    public void The_large_tile_and_several_chunks_agree_with_the_oracle()
    {
        (int rows, int columns, int dim) = (131, 261, 72);
        RandomData data = new(3);
        using DeviceTensor<BF16> x = new(device, UnitRows(data, rows, dim), rows, dim), y = new(device, UnitRows(data, columns, dim), columns, dim);
        using DeviceTensor<FP32> work = new(device, 1, 4 * rows, 0);
        ScorePlan plan = ScorePlan.Choose(device, rows, columns, dim, x.Matrix, y.Matrix, new(work.Start, 4 * rows));
        Assert.True(plan is { LargeTile: true, Chunks: 2 }, plan.ToString());
        plan.Run<BF16>(1 / Temperature);
        (double[] largest, double[] sums) = LogSums(x.ToDoubles(), y.ToDoubles(), dim);
        float[] partial = work.ToArray();
        for (int r = 0; r < rows; r++)
        {
            double sum = 0;
            for (int chunk = 0; chunk < 2; chunk++) sum += partial[(((2 * chunk) + 1) * rows) + r] * Math.Exp((partial[(2 * chunk * rows) + r] - largest[r]) / Temperature);
            Assert.Equal(sums[r], sum, 2e-5 * sums[r]);
        }
    }

    [Fact]
    public void Strips_add_up_to_the_whole()
    {
        InBatch<BF16>(7, 40, 40, leastWorkspace: true);
        InBatch<FP32>(5, 60, 24, leastWorkspace: true);
    }

    [Fact]
    public void Rows_without_alignment_are_read_all_the_same()
    {
        InBatch<BF16>(9, 2, 19);
        OwnGroup<FP32>(3, 5, 19);
    }

    [Theory]
    [InlineData(1, 1, 8)]
    [InlineData(7, 8, 40)]
    [InlineData(2, 3, 1032)]
    public void Without_in_batch_negatives_each_query_sees_its_own_group_only(int queries, int groupSize, int dim)
    {
        OwnGroup<FP32>(queries, groupSize, dim);
        OwnGroup<BF16>(queries, groupSize, dim);
    }

    [Fact]
    public void Queries_without_a_target_do_not_count()
    {
        int[] targets = [3, -1, 0, 12, -1];
        (int queries, int passages, int dim) = (targets.Length, 13, 24);
        RandomData data = new(5);
        using DeviceTensor<FP32> q = new(device, UnitRows(data, queries, dim), queries, dim), p = new(device, UnitRows(data, passages, dim), passages, dim),
            dq = new(device, queries, dim), dp = new(device, passages, dim), rowLoss = new(device, 1, queries, 0), log = new(device, 1, queries, 0),
            loss = new(device, 1, 1, 0), work = new(device, 1, 4096, 0);
        using DeviceMemory indices = Upload(targets);
        InfoNceTargets shape = new(queries, passages, dim, new(indices.Address));
        Workspace workspace = new(work.Start, 4096);
        InfoNce.Forward(device, shape, q.Matrix, p.Matrix, Temperature, rowLoss.Start, log.Start, loss.Start, workspace);
        (double expected, double[] rows) = InfoNceReference.Forward(q.ToDoubles(), p.ToDoubles(), null, dim, Temperature, targets);
        loss.AssertNear([expected], 1e-5);
        rowLoss.AssertNear(rows, 1e-5);
        Assert.Equal(float.PositiveInfinity, log.ToArray()[1]);
        (double[] dqExpected, double[] dpExpected, _) = InfoNceReference.Backward(q.ToDoubles(), p.ToDoubles(), null, dim, Temperature, targets);
        InfoNce.Backward(device, shape, q.Matrix, p.Matrix, 0, Temperature, log.Start, 1f / 3, dq.Matrix, false, dp.Matrix, false, workspace);
        dq.AssertNear(dqExpected, 1e-5);
        dp.AssertNear(dpExpected, 1e-5);
        // A range of the passages: only their gradients, the same.
        using DeviceTensor<FP32> part = new(device, 6, dim);
        DeviceMatrix<FP32> from = new(new(p.Start.Address + (4 * p.Stride * sizeof(float))), p.Stride);
        InfoNce.Backward(device, shape with { Passages = 6 }, q.Matrix, from, 4, Temperature, log.Start, 1f / 3, default, false, part.Matrix, false, workspace);
        part.AssertNear(dpExpected[(4 * dim)..(10 * dim)], 1e-5);
    }

    [Fact]
    public void The_gradient_of_the_loss_comes_from_the_device_and_is_added()
    {
        (int queries, int groupSize, int dim) = (3, 2, 16);
        RandomData data = new(6);
        using DeviceTensor<FP32> q = new(device, UnitRows(data, queries, dim), queries, dim), p = new(device, UnitRows(data, 6, dim), 6, dim),
            dq = new(device, data.Uniform(queries * dim), queries, dim), dp = new(device, data.Uniform(6 * dim), 6, dim), scale = new(device, [-4], 1, 1),
            rowLoss = new(device, 1, queries, 0), log = new(device, 1, queries, 0), loss = new(device, 1, 1, 0), work = new(device, 1, 4096, 0);
        Workspace workspace = new(work.Start, 4096);
        foreach (bool inBatch in new[] { true, false })
        {
            double[] dqBefore = dq.ToDoubles(), dpBefore = dp.ToDoubles();
            InfoNceShape shape = new(queries, groupSize, dim);
            InfoNce.Forward(device, shape, q.Matrix, p.Matrix, Temperature, inBatch, rowLoss.Start, log.Start, loss.Start, workspace);
            InfoNce.Backward(device, shape, q.Matrix, p.Matrix, Temperature, inBatch, log.Start, new DeviceScalar(0.5f, scale.Start), dq.Matrix, true, dp.Matrix, true, workspace);
            (_, double[] dqExpected, double[] dpExpected) = Oracle(q.ToDoubles(), p.ToDoubles(), groupSize, dim, inBatch);
            dq.AssertNear([.. dqExpected.Zip(dqBefore, (g, b) => b - (2 * g))], 1e-5);
            dp.AssertNear([.. dpExpected.Zip(dpBefore, (g, b) => b - (2 * g))], 1e-5);
        }
    }

    [Fact]
    public void A_rerun_is_bit_equal()
    {
        (float[] loss, float[] dq, float[] dp) = Once();
        (float[] lossAgain, float[] dqAgain, float[] dpAgain) = Once();
        Tolerance.AssertBitEqual(lossAgain, loss, "loss");
        Tolerance.AssertBitEqual(dqAgain, dq, "dq");
        Tolerance.AssertBitEqual(dpAgain, dp, "dp");

        (float[], float[], float[]) Once()
        {
            RandomData data = new(8);
            using ContrastiveRun<BF16> run = new(device, UnitRows(data, 9, 72), UnitRows(data, 18, 72), 2, 72);
            run.Forward(Temperature, inBatch: true);
            run.Backward(Temperature, inBatch: true);
            return (run.Loss.ToArray(), run.Dq.ToArray(), run.Dp.ToArray());
        }
    }

    [Fact]
    public void A_score_that_is_not_a_number_shows_in_the_loss()
    {
        double[] q = UnitRows(new RandomData(9), 3, 8), p = UnitRows(new RandomData(10), 3, 8);
        p[9] = double.NaN;
        using ContrastiveRun<BF16> run = new(device, q, p, 1, 8);
        run.Forward(Temperature, inBatch: true);
        Assert.True(float.IsNaN(run.Loss.ToArray()[0]));
    }

    [Fact]
    public void What_cannot_be_computed_is_refused()
    {
        Assert.Throws<ArgumentException>(() => InfoNce.Forward<BF16>(device, new(0, 1, 8), default, default, 1, true, default, default, default, default));
        Assert.Throws<ArgumentException>(() => InfoNce.Forward<BF16>(device, new(1, 1, 8), default, default, 0, true, default, default, default, default));
        Assert.Throws<ArgumentException>(() => InfoNce.Forward<BF16>(device, new(1, 1, 8), default, default, 1, true, default, default, default, default));
        Assert.Throws<ArgumentException>(() => InfoNce.Backward<BF16>(device, new(1, 1, 8), default, default, 1, true, default, 1f, new(new(256), 8), false, default, false, default));
    }

    private void InBatch<T>(int queries, int groupSize, int dim, bool leastWorkspace = false) where T : unmanaged, IElement => Compare<T>(queries, groupSize, dim, true, leastWorkspace);

    private void OwnGroup<T>(int queries, int groupSize, int dim) where T : unmanaged, IElement => Compare<T>(queries, groupSize, dim, false, false);

    private void Compare<T>(int queries, int groupSize, int dim, bool inBatch, bool leastWorkspace) where T : unmanaged, IElement
    {
        RandomData data = new((queries * 100) + groupSize);
        using ContrastiveRun<T> run = new(device, UnitRows(data, queries, dim), UnitRows(data, queries * groupSize, dim), groupSize, dim, leastWorkspace);
        run.Forward(Temperature, inBatch);
        run.Backward(Temperature, inBatch);
        (double[] rows, double[] dq, double[] dp) = Oracle(run.Q.ToDoubles(), run.P.ToDoubles(), groupSize, dim, inBatch);
        run.Loss.AssertNear([rows.Average()], 2e-5, $"{T.DType} loss");
        run.RowLoss.AssertNear(rows, 2e-5, $"{T.DType} loss of a row");
        // Weights are rounded to the element type before the products: an error of up to half a unit of every weight, each of at most 1 / queries / temperature.
        // Gradients that cancel to nothing (one candidate) keep the exponential's own error.
        double weights = T.DType switch { DType.BFloat16 => 1 / 256.0, DType.Float16 => 1 / 2048.0, _ => 1e-5 };
        double least = 2e-6 / Temperature / queries;
        run.Dq.AssertNear(dq, weights, $"{T.DType} dq", least);
        run.Dp.AssertNear(dp, weights, $"{T.DType} dp", least);
    }

    private static (double[] RowLoss, double[] Dq, double[] Dp) Oracle(double[] q, double[] p, int groupSize, int dim, bool inBatch)
    {
        int queries = q.Length / dim;
        if (inBatch)
        {
            int[] targets = [.. Enumerable.Range(0, queries).Select(b => b * groupSize)];
            (double[] dx, double[] dy, _) = InfoNceReference.Backward(q, p, null, dim, Temperature, targets);
            return (InfoNceReference.Forward(q, p, null, dim, Temperature, targets).RowLoss, dx, dy);
        }
        List<double> rows = [], dq = [], dp = [];
        for (int b = 0; b < queries; b++)
        {
            double[] query = q[(b * dim)..((b + 1) * dim)], group = p[(b * groupSize * dim)..((b + 1) * groupSize * dim)];
            rows.AddRange(InfoNceReference.Forward(query, group, null, dim, Temperature, [0]).RowLoss);
            (double[] dx, double[] dy, _) = InfoNceReference.Backward(query, group, null, dim, Temperature, [0]);
            dq.AddRange(dx.Select(v => v / queries));
            dp.AddRange(dy.Select(v => v / queries));
        }
        return ([.. rows], [.. dq], [.. dp]);
    }

    private static (double[] Largest, double[] Sums) LogSums(double[] x, double[] y, int dim)
    {
        int rows = x.Length / dim;
        double[] largest = new double[rows], sums = new double[rows];
        for (int r = 0; r < rows; r++)
        {
            double[] scores = [.. Enumerable.Range(0, y.Length / dim).Select(c => Enumerable.Range(0, dim).Sum(d => x[(r * dim) + d] * y[(c * dim) + d]))];
            largest[r] = scores.Max();
            sums[r] = scores.Sum(s => Math.Exp((s - largest[r]) / Temperature));
        }
        return (largest, sums);
    }

    private DeviceMemory Upload(int[] values)
    {
        DeviceMemory memory = device.Allocate(values.Length * sizeof(int));
        device.Upload<int>(values, new(memory.Address));
        return memory;
    }

    private static double[] UnitRows(RandomData data, int rows, int dim) => GpuInfoNceScaleTests.Unit(data.Uniform(rows * dim), dim);
}

/// <summary>A batch on a device with everything that its loss and gradients need.</summary>
internal sealed class ContrastiveRun<T> : IDisposable where T : unmanaged, IElement
{
    private readonly KernelDevice _device;
    private readonly InfoNceShape _shape;
    private readonly Workspace _workspace;
    private readonly DeviceTensor<FP32> _work;

    public ContrastiveRun(KernelDevice device, double[] q, double[] p, int groupSize, int dim, bool leastWorkspace = false)
    {
        int queries = q.Length / dim, passages = p.Length / dim, padding = dim % 8 == 0 ? 8 : 3;
        _device = device;
        _shape = new(queries, groupSize, dim);
        Q = new(device, q, queries, dim, padding);
        P = new(device, p, passages, dim, padding);
        Dq = new(device, queries, dim, padding);
        Dp = new(device, passages, dim, padding);
        RowLoss = new(device, 1, queries, 0);
        LogSumExp = new(device, 1, queries, 0);
        Loss = new(device, 1, 1, 0);
        long length = leastWorkspace ? InfoNce.LeastWorkspace(queries, dim) : InfoNce.LeastWorkspace(queries, dim) + ((long)queries * passages) + (1 << 14);
        _work = new(device, 1, (int)length, 0);
        _workspace = new(_work.Start, length);
    }

    public DeviceTensor<T> Q { get; }

    public DeviceTensor<T> P { get; }

    public DeviceTensor<T> Dq { get; }

    public DeviceTensor<T> Dp { get; }

    public DeviceTensor<FP32> RowLoss { get; }

    public DeviceTensor<FP32> LogSumExp { get; }

    public DeviceTensor<FP32> Loss { get; }

    public void Forward(float temperature, bool inBatch) =>
        InfoNce.Forward(_device, _shape, Q.Matrix, P.Matrix, temperature, inBatch, RowLoss.Start, LogSumExp.Start, Loss.Start, _workspace);

    public void Backward(float temperature, bool inBatch) =>
        InfoNce.Backward(_device, _shape, Q.Matrix, P.Matrix, temperature, inBatch, LogSumExp.Start, 1f, Dq.Matrix, false, Dp.Matrix, false, _workspace);

    public void Dispose()
    {
        foreach (IDisposable part in new IDisposable[] { Q, P, Dq, Dp, RowLoss, LogSumExp, Loss, _work }) part.Dispose();
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedInfoNceTests(EmulationFixture fixture) : InfoNceTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxInfoNceTests(PtxFixture fixture) : InfoNceTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuInfoNceTests(GpuFixture fixture) : InfoNceTests(fixture.DeviceOrSkip());

/// <summary>At a batch's own sizes, where only a GPU is fast enough: the tensor cores against the exact kernels, from the same rounded vectors.</summary>
[Collection("gpu")]
public sealed class GpuInfoNceScaleTests(GpuFixture fixture)
{
    private const float Temperature = 0.02f;

    [CudaFact]
    public void Tensor_cores_agree_with_exact_sums_over_several_strips_and_repeat_themselves()
    {
        (int queries, int groupSize, int dim) = (2048, 4, 768);
        Assert.True(InfoNce.StripOf(queries) < queries * groupSize);
        CudaDevice device = fixture.DeviceOrSkip();
        RandomData data = new(1);
        double[] q = Unit(data.Uniform(queries * dim), dim), p = Unit(data.Uniform(queries * groupSize * dim), dim);
        using ContrastiveRun<BF16> low = Run<BF16>(device, q, p, groupSize, dim), again = Run<BF16>(device, q, p, groupSize, dim);
        using ContrastiveRun<FP32> exact = Run<FP32>(device, low.Q.ToDoubles(), low.P.ToDoubles(), groupSize, dim);
        Assert.Equal(exact.Loss.ToArray()[0], low.Loss.ToArray()[0], 1e-4f);
        Tolerance.AssertNorm(low.RowLoss.ToArray(), exact.RowLoss.ToDoubles(), 1e-5, "losses");
        // A weight keeps 8 bits; errors of a row are independent of each other.
        Tolerance.AssertNorm(low.Dq.ToArray(), exact.Dq.ToDoubles(), 1 / 256.0, "dq");
        Tolerance.AssertNorm(low.Dp.ToArray(), exact.Dp.ToDoubles(), 1 / 256.0, "dp");
        Tolerance.AssertBitEqual(again.Dq.ToArray(), low.Dq.ToArray(), "dq again");
        Tolerance.AssertBitEqual(again.Dp.ToArray(), low.Dp.ToArray(), "dp again");
    }

    [CudaFact]
    public void A_batch_of_8192_queries_needs_no_score_matrix()
    {
        (int queries, int groupSize, int dim) = (8192, 8, 256);
        CudaDevice device = fixture.DeviceOrSkip();
        long workspace = InfoNce.AmpleWorkspace(queries, queries * groupSize, dim);
        Assert.True(workspace < (long)queries * queries * groupSize / 8);
        RandomData data = new(2);
        using ContrastiveRun<BF16> run = Run<BF16>(device, Unit(data.Uniform(queries * dim), dim), Unit(data.Uniform(queries * groupSize * dim), dim), groupSize, dim, leastWorkspace: true);
        Assert.All(run.RowLoss.ToArray(), loss => Assert.InRange(loss, 0f, 100f));
        Assert.True(run.Dq.ToArray().All(float.IsFinite) && run.Dp.ToArray().All(float.IsFinite));
    }

    private static ContrastiveRun<T> Run<T>(CudaDevice device, double[] q, double[] p, int groupSize, int dim, bool leastWorkspace = false) where T : unmanaged, IElement
    {
        ContrastiveRun<T> run = new(device, q, p, groupSize, dim, leastWorkspace);
        run.Forward(Temperature, inBatch: true);
        run.Backward(Temperature, inBatch: true);
        return run;
    }

    internal static double[] Unit(double[] values, int dim)
    {
        for (int start = 0; start < values.Length; start += dim)
        {
            Span<double> row = values.AsSpan(start, dim);
            double squares = 0;
            foreach (double v in row) squares += v * v;
            foreach (ref double v in row) v /= Math.Sqrt(squares);
        }
        return values;
    }
}
