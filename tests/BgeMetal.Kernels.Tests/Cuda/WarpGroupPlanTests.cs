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
        // In between, tiles that hide their ends, by pairs of blocks that fetch less; where one of a pair would have nothing to do, each block for itself.
        Assert.Equal(WarpGroupTiling.Pair128, Plan<Nt>(device, 65536, 1536, 384).WarpGroups);
        Assert.Equal(WarpGroupTiling.Tile128, Plan<Nt>(device, 3 * 128, 44 * 128, 384).WarpGroups);
        Assert.True(GemmCost.Stage(128, 64) < GemmCost.Stage(128, 128));
        Assert.Equal(GemmCost.Stage(256, 256), GemmCost.Stage(256, 128));
        // One tile more than there are multiprocessors is a second turn for all.
        Assert.True(GemmCost.Tile256(133 * 128, 256, 768, 1, H100, GemmCost.PlainEpilogue) > 1.8 * GemmCost.Tile256(132 * 128, 256, 768, 1, H100, GemmCost.PlainEpilogue));
    }

    [Theory]
    [InlineData("mma", nameof(WarpGroupTiling.None))]
    [InlineData("128", nameof(WarpGroupTiling.Tile128))]
    [InlineData("256", nameof(WarpGroupTiling.Tile256))]
    [InlineData("pair", nameof(WarpGroupTiling.Pair128))]
    public void A_device_can_be_told_which_kernels_products_may_choose(string words, string tiling)
    {
        using PtxDevice device = new(H100, hasWarpGroups: true) { Products = ProductKernelNames.Parse(words) };
        Assert.Equal(Enum.Parse<WarpGroupTiling>(tiling), Plan<Nt>(device, 65536, 1024, 512).WarpGroups);
        // What only mma.sync can do stays possible.
        Assert.Equal(WarpGroupTiling.None, Plan<Nt>(device, 65536, 771, 768).WarpGroups);
    }

    [Fact]
    public void What_products_may_choose_is_read_from_a_list_of_words()
    {
        Assert.Equal(ProductKernels.All, ProductKernelNames.Parse(""));
        Assert.Equal(ProductKernels.Mma | ProductKernels.Tile256, ProductKernelNames.Parse("mma, 256"));
        Assert.Equal("BGEMETAL_PRODUCTS=mma,wide: 'wide' is none of mma, 128, 256, pair", Assert.Throws<DeviceException>(() => ProductKernelNames.Parse("mma,wide")).Message);
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
        WarpGroupWork[] items = [.. Enumerable.Range(0, arguments.Items).Select(i => WarpGroupWork.At<WarpGroupTile256, Partial>(arguments, i, 0))];
        Assert.Equal(arguments.Items, items.Select(i => (i.Row, i.Column, i.Split)).Distinct().Count());
        Assert.All(items, i => Assert.True(i.Row < arguments.M && i.Column < arguments.N && i.Depth == i.Split * 256 && i.DepthEnd == Math.Min(i.Depth + 256, 700)));
        Assert.Equal(WarpGroupWork.GroupRows, items.Take(24).Select(i => i.Row).Distinct().Count());
        Assert.Equal(3, items.Take(24).Select(i => i.Column).Distinct().Count());
    }

    [Fact]
    public void Blocks_of_a_pair_work_one_below_the_other_and_every_tile_is_done_once()
    {
        WarpGroupArguments<Partial> arguments = new() { M = 128 * 19, N = 128 * 3, K = 700, SplitDepth = 256, TilesM = 10, TilesN = 3, Items = 10 * 3 * 3 };
        WarpGroupWork[][] pairs = [.. Enumerable.Range(0, arguments.Items).Select(i => new[] { At(i, 0), At(i, 1) })];
        Assert.Equal(2 * arguments.Items, pairs.SelectMany(pair => pair).Select(i => (i.Row, i.Column, i.Split)).Distinct().Count());
        Assert.All(pairs, pair => Assert.Equal((pair[0].Row + 128, pair[0].Column, pair[0].Depth, pair[0].DepthEnd, pair[0].Split), (pair[1].Row, pair[1].Column, pair[1].Depth, pair[1].DepthEnd, pair[1].Split)));
        // The last row of tiles is odd: its other half lies behind the last row.
        Assert.Equal(3 * 3, pairs.Count(pair => pair[1].Row >= arguments.M));
        Assert.All(pairs, pair => Assert.True(pair[0].Row < arguments.M && pair[0].Column < arguments.N));
        Assert.Equal(2 * WarpGroupWork.GroupRows, pairs.Take(24).SelectMany(pair => pair).Select(i => i.Row).Distinct().Count());

        WarpGroupWork At(int item, int rank) => WarpGroupWork.At<WarpGroupPair128, Partial>(arguments, item, rank);
    }

    [Fact]
    public void Pairs_are_launched_as_whole_pairs_and_a_box_of_the_shared_operand_is_half_as_high()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        DeviceMatrix<BF16> x = new(new(0x100000), 1024), w = new(new(0x200000), 1024), y = new(new(0x300000), 256);
        device.Products = ProductKernels.Pair128;
        Linear.Forward(device, new(300, 1024, 256), x, w, default, LinearActivation.None, default, default, y, default);
        Assert.Equal(["map of type 1: 300 x 1024 in boxes of 128 x 64", "map of type 1: 256 x 1024 in boxes of 64 x 64"], stub.Log.Where(l => l.StartsWith("map", StringComparison.Ordinal)));
        // Two pairs below each other, two columns; the stub has four multiprocessors, room for four pairs.
        Assert.StartsWith("launch grid 8 1 1 block 288 1 1 ", stub.Log[^1], StringComparison.Ordinal);
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
        int blockN = tiling switch { WarpGroupTiling.Tile256 => 256, WarpGroupTiling.Pair128 => 64, _ => 128 }, blocks = tiling == WarpGroupTiling.Tile256 ? 4 : 8;
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
