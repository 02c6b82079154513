using System.Text.RegularExpressions;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Each thing that keeps two blocks of a pair in order, taken out of their text: the interpreter must notice every one.</summary>
public sealed partial class WarpGroupPairMistakeTests
{
    [Fact]
    public void The_text_as_it_is_computes_the_product() => Assert.True(IsExact(null));

    [Fact]
    public void Handing_stages_back_to_ones_own_block_only_is_noticed() =>
        Assert.False(IsExactAndWhole(text => Elsewhere().Replace(text, "mov.u32 there, $1;")));

    [Fact]
    public void Counting_the_warps_of_one_block_only_is_noticed() =>
        Assert.False(IsExactAndWhole(text => Drained().Replace(text, "8;$1")));

    [Fact]
    public void A_box_that_reaches_one_block_only_is_a_deadlock() =>
        Assert.Contains("threads wait for each other at", Failure(text => text.Replace("mov.b16 all, 3;", "mov.b16 all, 1;", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void Half_of_the_shared_operand_missing_is_a_deadlock() =>
        Assert.Contains("threads wait for each other at", Failure(text => Multicast().Replace(text, "")), StringComparison.Ordinal);

    [Fact]
    public void Expecting_only_what_one_fetches_oneself_gives_wrong_numbers() => Assert.False(IsExactAndWhole(text => Expected().Replace(text, "$1, 24576;")));

    [Fact]
    public void Signalling_a_block_that_has_not_made_its_barriers_is_refused() =>
        Assert.Contains("no mbarrier at", Failure(text => Meeting().Replace(text, "", 1)), StringComparison.Ordinal);

    [Fact]
    public void Ending_before_the_other_block_is_done_is_noticed()
    {
        string failure = Failure(text => text.Remove(Meeting().Matches(text)[^1].Index, Meeting().Matches(text)[^1].Length));
        Assert.Contains("of the cluster has ended before 'mbarrier.arrive", failure, StringComparison.Ordinal);
    }

    [Fact]
    public void A_grid_that_leaves_a_block_without_its_other_is_refused()
    {
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true);
        WarpGroupArguments<Partial> arguments = default;
        Assert.Equal("WarpGroupGemm.Multiply.BF16.Nt.WarpGroupPair128.Partial runs in clusters of 2 blocks, 3 are no whole number of them (Parameter 'grid')", Assert.Throws<ArgumentException>(() =>
            device.Launch(WarpGroupGemm.Multiply<BF16, Primitives.Nt, WarpGroupPair128, Primitives.Accumulator64, Partial>, new GridSize(3), arguments)).Message);
    }

    private static string Failure(Func<string, string>? change) => Assert.Throws<InvalidOperationException>(() => IsExact(change)).Message;

    private static bool IsExactAndWhole(Func<string, string> change)
    {
        try
        {
            return IsExact(change);
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    // Two tiles below each other, seven stages through a ring of three.
    private static bool IsExact(Func<string, string>? change)
    {
        (int rows, int inputs, int outputs) = (200, 448, 128);
        string before = "", after = "";
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true) { IsChecked = change is null, Change = text => after = (change ?? (same => same))(before = text) };
        RandomData data = new(32);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0);
        (GemmPlan.Choose<BF16, Primitives.Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = WarpGroupTiling.Pair128 })
            .Run<BF16, Primitives.Nt, Partial>(new(y.Start, rows, outputs));
        Assert.Contains("multicast::cluster", before, StringComparison.Ordinal);
        Assert.Equal(change is null, before == after);
        return y.ToArray().SequenceEqual(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs).Select(v => (float)v));
    }

    [GeneratedRegex(@"mapa\.shared::cluster\.u32 there, (%r\d+), %r\d+;")]
    private static partial Regex Elsewhere();

    [GeneratedRegex(@"16;(\s*mbarrier\.init)")]
    private static partial Regex Drained();

    [GeneratedRegex(@"cp\.async\.bulk\.tensor[^;]*multicast::cluster[^;]*;")]
    private static partial Regex Multicast();

    [GeneratedRegex(@"(mbarrier\.arrive\.expect_tx[^,]*,[^,]*), %r\d+;")]
    private static partial Regex Expected();

    [GeneratedRegex(@"barrier\.cluster\.arrive[^;]*;\s*barrier\.cluster\.wait[^;]*;")]
    private static partial Regex Meeting();
}
