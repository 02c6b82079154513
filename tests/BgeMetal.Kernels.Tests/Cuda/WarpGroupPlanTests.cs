using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Which products go to warp groups, and what the driver is told of them.</summary>
[Collection("stub driver")]
public sealed class WarpGroupPlanTests(StubDriver stub)
{
    private const int H100 = 132;

    private static Workspace Ample => new(new(0x100), Linear.AmpleWorkspace);

    [Fact]
    public void Large_products_of_every_form_are_taken_and_small_ones_are_not()
    {
        using PtxDevice device = new(H100, hasWarpGroups: true);
        Assert.NotEqual(WarpGroupTiling.None, Plan<Nt>(device, 65536, 768, 768).WarpGroups);
        Assert.NotEqual(WarpGroupTiling.None, Plan<Nn>(device, 65536, 768, 3072).WarpGroups);
        GemmPlan weight = Plan<Tn>(device, 768, 768, 65536);
        Assert.NotEqual(WarpGroupTiling.None, weight.WarpGroups);
        Assert.InRange(weight.Splits, 2, 64);
        Assert.Equal(0, weight.SplitDepth % 64);
        Assert.Equal(WarpGroupTiling.None, Plan<Nt>(device, 16, 384, 384).WarpGroups);
        Assert.Equal(WarpGroupTiling.None, Plan<Nt>(device, 65536, 771, 768).WarpGroups);
    }

    [Fact]
    public void The_rule_is_the_least_predicted_cost()
    {
        using PtxDevice device = new(H100, hasWarpGroups: true);
        // A long depth pays for the tile that reads least; an expensive epilogue for the tile whose neighbour goes on meanwhile.
        Assert.Equal(WarpGroupTiling.Tile256, Plan<Nt>(device, 65536, 1024, 4096).WarpGroups);
        Assert.Equal(WarpGroupTiling.Tile128, Plan<Nt>(device, 65536, 1536, 384, GemmCost.GeluEpilogue).WarpGroups);
        Assert.True(GemmCost.Tile256(65536, 1024, 4096, 1, H100, GemmCost.PlainEpilogue) < GemmCost.Tile128(65536, 1024, 4096, 1, H100, GemmCost.PlainEpilogue));
        Assert.True(GemmCost.Tile128(65536, 1536, 384, 1, H100, GemmCost.GeluEpilogue) < GemmCost.Tile256(65536, 1536, 384, 1, H100, GemmCost.GeluEpilogue));
        // One tile more than there are multiprocessors is a second turn for all.
        Assert.True(GemmCost.Tile256(133 * 128, 256, 768, 1, H100, GemmCost.PlainEpilogue) > 1.8 * GemmCost.Tile256(132 * 128, 256, 768, 1, H100, GemmCost.PlainEpilogue));
    }

    [Fact]
    public void Devices_without_the_instructions_are_left_to_the_other_family()
    {
        using PtxDevice device = new(H100);
        Assert.Equal(WarpGroupTiling.None, Plan<Nt>(device, 65536, 768, 768).WarpGroups);
        stub.Reset(major: 8);
        using (CudaDevice ampere = stub.Open()) Assert.Equal((false, WarpGroupTiling.None), (ampere.HasWarpGroups, Plan<Nt>(ampere, 8192, 1024, 1024).WarpGroups));
        stub.Reset(major: 10);
        using (CudaDevice blackwell = stub.Open()) Assert.Equal((false, WarpGroupTiling.None), (blackwell.HasWarpGroups, Plan<Nt>(blackwell, 8192, 1024, 1024).WarpGroups));
        stub.Reset(version: 11080);
        using CudaDevice old = stub.Open();
        Assert.Equal((false, WarpGroupTiling.None), (old.HasWarpGroups, Plan<Nt>(old, 8192, 1024, 1024).WarpGroups));
    }

    [Fact]
    public void Linear_layers_take_them_by_themselves_and_stay_exact()
    {
        (int rows, int inputs, int outputs) = (264, 256, 320);
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true) { Profile = new KernelProfile() };
        RandomData data = new(41);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs),
            dy = new(device, data.Integers(rows * outputs, 1), rows, outputs), bias = new(device, data.Integers(outputs, 9), 1, outputs), y = new(device, rows, outputs), dx = new(device, rows, inputs);
        using DeviceTensor<FP32> dw = new(device, new double[outputs * inputs], outputs, inputs);
        LinearShape shape = new(rows, inputs, outputs);
        Linear.Forward(device, shape, x.Matrix, w.Matrix, bias.Start, LinearActivation.None, default, default, y.Matrix, default);
        Linear.BackwardInput(device, shape, dy.Matrix, w.Matrix, default, accumulate: false, dx.Matrix, default);
        Linear.BackwardWeight(device, shape, dy.Matrix, x.Matrix, dw.Matrix, default);
        (double[] dxExpected, double[] dwExpected, _) = LinearReference.Backward(dy.ToDoubles(), x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs);
        y.AssertNear(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), bias.ToDoubles(), rows, inputs, outputs), floor: 0);
        dx.AssertNear(dxExpected, floor: 0);
        dw.AssertExactly(dwExpected);
        Assert.Equal(["WarpGroupGemm.Multiply.BF16.Nn", "WarpGroupGemm.Multiply.BF16.Nt", "WarpGroupGemm.Multiply.BF16.Tn"],
            device.Profile!.Times.Select(row => string.Join('.', row.Name.Split('.')[..4])).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_work_item_is_done_once_and_neighbours_share_operands()
    {
        WarpGroupArguments<Partial> arguments = new() { M = 128 * 19, N = 256 * 3, K = 700, SplitDepth = 256, TilesM = 19, TilesN = 3, Items = 19 * 3 * 3 };
        WarpGroupWork[] items = [.. Enumerable.Range(0, arguments.Items).Select(i => WarpGroupWork.At<WarpGroupTile256, Partial>(arguments, i))];
        Assert.Equal(arguments.Items, items.Select(i => (i.Row, i.Column, i.Split)).Distinct().Count());
        Assert.All(items, i => Assert.True(i.Row < arguments.M && i.Column < arguments.N && i.Depth == i.Split * 256 && i.DepthEnd == Math.Min(i.Depth + 256, 700)));
        Assert.Equal(WarpGroupWork.GroupRows, items.Take(24).Select(i => i.Row).Distinct().Count());
        Assert.Equal(3, items.Take(24).Select(i => i.Column).Distinct().Count());
    }

    [Fact]
    public void The_driver_describes_the_operands_once_and_the_maps_lead_the_arguments()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        Assert.True(device.HasWarpGroups);
        DeviceMatrix<BF16> x = new(new(0x100000), 1032), w = new(new(0x200000), 1024), y = new(new(0x300000), 2048);
        byte[] passed = stub.ArgumentOf(Unsafe.SizeOf<WarpGroupArguments<LinearOutput<BF16>>>(), Enqueue);
        ReadOnlySpan<long> words = MemoryMarshal.Cast<byte, long>(passed);
        WarpGroupTiling tiling = GemmPlan.Choose<BF16, Nt>(device, 4096, 2048, 1024, x, w, default).WarpGroups;
        int blockN = tiling == WarpGroupTiling.Tile256 ? 256 : 128, blocks = tiling == WarpGroupTiling.Tile256 ? 4 : 8;
        Assert.Equal([0x100000, 1024, 4096, 2064, 128], words[..5].ToArray());
        Assert.Equal([0x200000, 1024, 2048, 2048, blockN], words[16..21].ToArray());
        Assert.Equal([4096, 2048, 1024], MemoryMarshal.Cast<byte, int>(passed)[64..67].ToArray());
        string[] maps = [$"map of type 1: 4096 x 1024 in boxes of 128 x 64", $"map of type 1: 2048 x 1024 in boxes of {blockN} x 64"];
        Assert.Equal(maps, stub.Log.Where(l => l.StartsWith("map", StringComparison.Ordinal)));
        Assert.StartsWith($"launch grid {blocks} 1 1 block ", stub.Log[^1], StringComparison.Ordinal);
        for (int i = 0; i < 3; i++) Enqueue();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) Enqueue();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(maps, stub.Log.Where(l => l.StartsWith("map", StringComparison.Ordinal)));

        void Enqueue() => Linear.Forward(device, new(4096, 1024, 2048), x, w, default, LinearActivation.None, default, default, y, default);
    }

    [Fact]
    public void Kernels_of_another_architecture_are_not_prepared()
    {
        stub.Reset(major: 8);
        using CudaDevice device = stub.Open();
        device.Prepare(KernelRegistry.All.Where(k => k.Architecture is not null));
        Assert.DoesNotContain(stub.Log, l => l.StartsWith("load", StringComparison.Ordinal));
        KernelDescriptor kernel = KernelRegistry.All.First(k => k.Architecture is not null);
        Assert.Equal($"{kernel.Name} is for sm_90a only, not for sm_80 (Parameter 'architecture')", Assert.Throws<ArgumentException>(() => kernel.TargetFor("sm_80")).Message);
    }

    private static GemmPlan Plan<TForm>(KernelDevice device, int m, int n, int k, int epilogue = GemmCost.PlainEpilogue) where TForm : struct, IForm =>
        GemmPlan.Choose<BF16, TForm>(device, m, n, k, new(new(0x10000), 4096), new(new(0x20000), 4096), Ample, epilogueInstructions: epilogue);
}
