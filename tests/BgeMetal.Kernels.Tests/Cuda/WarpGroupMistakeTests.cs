using System.Text.RegularExpressions;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Each thing that keeps a warp-group product in order, taken out of its text: the interpreter must notice every one, by itself, without <see cref="PtxChecks"/>.</summary>
public sealed partial class WarpGroupMistakeTests
{
    [Fact]
    public void The_text_as_it_is_computes_the_product() => Assert.True(IsExact(null));

    [Fact]
    public void Reading_a_stage_before_its_copies_have_come_gives_wrong_numbers() => Assert.False(IsExact(text => WithoutWait(WithoutWait(text, 0), 0), inputs: 64));

    [Fact]
    public void Running_ahead_of_the_copies_is_a_deadlock() =>
        Assert.Contains("threads wait for each other at 'mbarrier.try_wait", Failure(text => WithoutWait(text, 0)), StringComparison.Ordinal);

    [Fact]
    public void Filling_a_stage_that_is_being_filled_is_refused() => Assert.Contains("more arrivals", Failure(text => WithoutWait(text, 1)), StringComparison.Ordinal);

    [Fact]
    public void Touching_accumulators_before_the_product_is_done_is_refused() =>
        Assert.Contains("a register is touched", Failure(text => text.Replace("wgmma.wait_group.sync.aligned 0", "wgmma.wait_group.sync.aligned 1", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void Handing_a_stage_back_with_its_product_under_way_gives_wrong_numbers() =>
        Assert.False(IsExact(text => text.Replace("wgmma.wait_group.sync.aligned 1", "wgmma.wait_group.sync.aligned 3", StringComparison.Ordinal)));

    [Fact]
    public void Accumulators_that_were_written_need_a_fence() =>
        Assert.Contains("no wgmma.fence followed", Failure(text => text.Replace("wgmma.fence.sync.aligned;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void A_stage_that_is_never_handed_back_is_a_deadlock() =>
        Assert.Contains("threads wait for each other at 'mbarrier.try_wait", Failure(text => Arrival().Replace(text, "")), StringComparison.Ordinal);

    [Fact]
    public void Barriers_that_the_copy_engine_was_not_told_of_are_refused() =>
        Assert.Contains("does not know the barrier", Failure(text => text.Replace("fence.mbarrier_init.release.cluster;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    private static string Failure(Func<string, string>? change) => Assert.Throws<InvalidOperationException>(() => IsExact(change)).Message;

    // Six stages through a ring of four, so that every stage is filled again.
    private static bool IsExact(Func<string, string>? change, int inputs = 384)
    {
        (int rows, int outputs) = (64, 64);
        string before = "", after = "";
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true) { IsChecked = change is null, Change = text => after = (change ?? (same => same))(before = text) };
        RandomData data = new(31);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0);
        (GemmPlan.Choose<BF16, Primitives.Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = WarpGroupTiling.Tile256 })
            .Run<BF16, Primitives.Nt, Partial>(new(y.Start, rows, outputs));
        Assert.Contains("wgmma.mma_async", before, StringComparison.Ordinal);
        Assert.Equal(change is null, before == after);
        return y.ToArray().SequenceEqual(LinearReference.Forward(x.ToDoubles(), w.ToDoubles(), null, rows, inputs, outputs).Select(v => (float)v));
    }

    // The multiplying warps' code comes first in the text, the copying thread's behind it.
    private static string WithoutWait(string text, int number)
    {
        Match wait = TransferWait().Matches(text)[number];
        return text.Remove(wait.Index, wait.Length).Insert(wait.Index, "setp.eq.b32 p, 0, 0;");
    }

    [GeneratedRegex(@"mbarrier\.try_wait[^;]*;")]
    private static partial Regex TransferWait();

    [GeneratedRegex(@"mbarrier\.arrive\.shared[^;]*;")]
    private static partial Regex Arrival();
}
