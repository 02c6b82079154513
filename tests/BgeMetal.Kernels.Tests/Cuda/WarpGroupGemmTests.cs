using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Products by warp groups against the oracle; the interpreter has two multiprocessors, so that blocks take several tiles.</summary>
public abstract class WarpGroupGemmTests(KernelDevice device)
{
    private static readonly WarpGroupTiling[] s_tilings = [WarpGroupTiling.Tile256, WarpGroupTiling.Tile128, WarpGroupTiling.Pair128];

    /// <summary>Rows, inputs, outputs: one tile, tails everywhere, stages that come round, several tiles a block.</summary>
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 128, 64, 256 }, { 200, 136, 264 }, { 72, 600, 40 }, { 1, 8, 8 },
    };

    [Theory, MemberData(nameof(Shapes))]
    public void Products_of_integers_are_exact_in_every_form(int rows, int inputs, int outputs)
    {
        Forms<BF16>(rows, inputs, outputs, WarpGroupTiling.Tile256);
        Forms<FP16>(rows, inputs, outputs, WarpGroupTiling.Tile128);
        Forms<BF16>(rows, inputs, outputs, WarpGroupTiling.Pair128);
    }

    [Fact]
    public void Pairs_of_blocks_go_on_together_over_many_tiles_and_one_whose_rows_lie_behind_the_last()
    {
        (int rows, int inputs, int outputs) = (300, 328, 264);
        RandomData data = new(25);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0);
        // Three tiles below each other are two pairs; six stages each time, through a ring of three.
        (GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = WarpGroupTiling.Pair128 }).Run<BF16, Nt, Partial>(new(y.Start, rows, outputs));
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs));
    }

    [Fact]
    public void Each_tile_takes_either_element_type()
    {
        Forms<FP16>(136, 72, 80, WarpGroupTiling.Tile256);
        Forms<BF16>(136, 72, 80, WarpGroupTiling.Tile128);
        Forms<FP16>(136, 72, 80, WarpGroupTiling.Pair128);
    }

    [Fact]
    public void A_product_split_along_its_depth_is_the_product()
    {
        (int rows, int inputs, int outputs) = (130, 328, 72);
        RandomData data = new(21);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 1), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs), y = new(device, rows, outputs);
        using DeviceTensor<FP32> work = new(device, 3 * rows, outputs, padding: 0);
        foreach (WarpGroupTiling tiling in s_tilings)
        {
            GemmPlan chosen = GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, new(work.Start, 3L * rows * outputs));
            GemmPlan plan = chosen with { WarpGroups = tiling, Splits = 3, SplitDepth = 128 };
            plan.Run<BF16, Nt, LinearOutput<BF16>>(new(y.Matrix, default, default));
            y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs), $"{tiling}");
        }
    }

    [Fact]
    public void Forward_epilogues_agree_with_the_oracle()
    {
        (int rows, int inputs, int outputs) = (150, 72, 136);
        RandomData data = new(22);
        using DeviceTensor<BF16> x = new(device, data.Uniform(rows * inputs), rows, inputs), w = new(device, data.Uniform(outputs * inputs, 0.4), outputs, inputs),
            bias = new(device, data.Uniform(outputs), 1, outputs), residual = new(device, data.Uniform(rows * outputs), rows, outputs);
        double[] sums = LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), bias.ToDoubles(), rows, inputs, outputs), before = residual.ToDoubles();
        foreach (WarpGroupTiling tiling in s_tilings)
        {
            using DeviceTensor<BF16> y = new(device, rows, outputs), activated = new(device, rows, outputs), saved = new(device, rows, outputs), bounded = new(device, rows, outputs);
            GemmPlan plan = GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = tiling };
            plan.Run<BF16, Nt, LinearOutput<BF16>>(new(y.Matrix, bias.Start, residual.Matrix));
            plan.Run<BF16, Nt, GeluOutput<BF16>>(new(activated.Matrix, bias.Start, saved.Matrix));
            plan.Run<BF16, Nt, TanhOutput<BF16>>(new(bounded.Matrix, bias.Start));
            y.AssertNear([.. sums.Zip(before, (a, b) => a + b)], what: $"{tiling} residual");
            saved.AssertNear(sums, what: $"{tiling} pre-activation");
            activated.AssertNear([.. sums.Select(ActivationReference.Gelu)], what: $"{tiling} GELU");
            bounded.AssertNear([.. sums.Select(Math.Tanh)], what: $"{tiling} tanh");
        }
    }

    [Fact]
    public void Backward_epilogues_agree_with_the_oracle()
    {
        (int rows, int inputs, int outputs) = (140, 80, 72);
        RandomData data = new(23);
        using DeviceTensor<BF16> dy = new(device, data.Uniform(rows * outputs), rows, outputs), w = new(device, data.Uniform(outputs * inputs), outputs, inputs),
            x = new(device, data.Uniform(rows * inputs), rows, inputs), saved = new(device, data.Uniform(rows * inputs, 4), rows, inputs);
        (double[] dxExpected, double[] dwExpected, _) = LinearReference.Backward(dy.ToDoubles(), x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs);
        double[] through = [.. dxExpected.Zip(saved.ToDoubles(), (d, v) => d * ActivationReference.GeluDerivative(v))];
        foreach (WarpGroupTiling tiling in s_tilings)
        {
            using DeviceTensor<BF16> dx = new(device, data.Uniform(rows * inputs), rows, inputs), gelu = new(device, rows, inputs);
            using DeviceTensor<FP32> dw = new(device, data.Uniform(outputs * inputs), outputs, inputs);
            double[] dxBefore = dx.ToDoubles(), dwBefore = dw.ToDoubles();
            GemmPlan input = GemmPlan.Choose<BF16, Nn>(device, rows, inputs, outputs, dy.Matrix, w.Matrix, default) with { WarpGroups = tiling };
            input.Run<BF16, Nn, GradientOutput<BF16>>(new(dx.Matrix, accumulate: true));
            input.Run<BF16, Nn, GeluGradientOutput<BF16>>(new(gelu.Matrix, saved.Matrix));
            (GemmPlan.Choose<BF16, Tn>(device, outputs, inputs, rows, dy.Matrix, x.Matrix, default) with { WarpGroups = tiling })
                .Run<BF16, Tn, WeightGradientOutput>(new(dw.Matrix));
            dx.AssertNear([.. dxExpected.Zip(dxBefore, (a, b) => a + b)], what: $"{tiling} dx");
            gelu.AssertNear(through, what: $"{tiling} dx through GELU");
            dw.AssertNear([.. dwExpected.Zip(dwBefore, (a, b) => a + b)], what: $"{tiling} dw");
        }
    }

    [Fact]
    public void What_cannot_be_written_in_rows_of_16_bytes_goes_by_the_other_family()
    {
        (int rows, int inputs, int outputs) = (20, 64, 72);
        RandomData data = new(24);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs),
            y = new(device, rows, outputs, padding: 3);
        (GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = WarpGroupTiling.Tile128 })
            .Run<BF16, Nt, LinearOutput<BF16>>(new(y.Matrix, default, default));
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs));
    }

    private void Forms<T>(int rows, int inputs, int outputs, WarpGroupTiling tiling) where T : unmanaged, IElement
    {
        RandomData data = new(rows + inputs);
        using DeviceTensor<T> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs),
            dy = new(device, data.Integers(rows * outputs, 1), rows, outputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0), dx = new(device, rows, inputs, padding: 0), dw = new(device, outputs, inputs, padding: 0);
        (double[] dxExpected, double[] dwExpected, _) = LinearReference.Backward(dy.ToDoubles(), x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs);
        (GemmPlan.Choose<T, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = tiling }).Run<T, Nt, Partial>(new(y.Start, rows, outputs));
        (GemmPlan.Choose<T, Nn>(device, rows, inputs, outputs, dy.Matrix, w.Matrix, default) with { WarpGroups = tiling }).Run<T, Nn, Partial>(new(dx.Start, rows, inputs));
        (GemmPlan.Choose<T, Tn>(device, outputs, inputs, rows, dy.Matrix, x.Matrix, default) with { WarpGroups = tiling }).Run<T, Tn, Partial>(new(dw.Start, outputs, inputs));
        y.AssertExactly(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs), $"{tiling} y");
        dx.AssertExactly(dxExpected, $"{tiling} dx");
        dw.AssertExactly(dwExpected, $"{tiling} dw");
    }
}

/// <summary>A device whose blocks have more than twelve warps.</summary>
public sealed class WarpGroupEmulation : IDisposable
{
    public EmulatedDevice Device { get; } = new(16);

    public void Dispose() => Device.Dispose();
}

/// <summary>An interpreting device with the instructions of sm_90a and two multiprocessors.</summary>
public sealed class WarpGroupInterpreter : IDisposable
{
    public PtxDevice Device { get; } = new(multiProcessors: 2, hasWarpGroups: true);

    public void Dispose() => Device.Dispose();
}

/// <summary>On the emulated device: the intrinsics' C# bodies.</summary>
public sealed class EmulatedWarpGroupGemmTests(WarpGroupEmulation fixture) : WarpGroupGemmTests(fixture.Device), IClassFixture<WarpGroupEmulation>;

/// <summary>From the text, with copies and products that finish as late as they may.</summary>
public sealed class PtxWarpGroupGemmTests(WarpGroupInterpreter fixture) : WarpGroupGemmTests(fixture.Device), IClassFixture<WarpGroupInterpreter>;

/// <summary>On a GPU that has the instructions, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuWarpGroupGemmTests(GpuFixture fixture) : WarpGroupGemmTests(fixture.HopperOrSkip());
