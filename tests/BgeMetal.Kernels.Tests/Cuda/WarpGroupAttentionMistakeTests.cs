namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Each thing that keeps attention by warp groups in order, taken out of its text: the interpreter must notice every one.</summary>
public sealed class WarpGroupAttentionMistakeTests
{
    // Three turns for both groups of a block; and a sequence that the one-turn kernel takes.
    private static readonly AttentionSetting s_long = new(1, 32, 130), s_short = new(1, 64, 50);

    [Fact]
    public void The_text_as_it_is_is_right()
    {
        Run(s_long, text => text);
        Run(s_short, text => text);
    }

    [Fact]
    public void Tiles_that_were_copied_must_be_published_to_the_tensor_cores()
    {
        Assert.Contains("fence", Failure(s_long, text => text.Replace("fence.proxy.async.shared::cta;", "", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.Contains("fence", Failure(s_short, text => text.Replace("fence.proxy.async.shared::cta;", "", StringComparison.Ordinal)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_tile_is_read_behind_the_barrier_that_follows_its_copies() =>
        Assert.Contains("shared", Failure(s_long, text => text.Replace("bar.sync", "// bar.sync", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void Scores_are_touched_when_their_product_is_done() =>
        Assert.Contains("a register is touched", Failure(s_long, text => text.Replace("wgmma.wait_group.sync.aligned 0", "wgmma.wait_group.sync.aligned 1", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Fact]
    public void Weights_that_were_packed_need_a_fence() =>
        Assert.Contains("no wgmma.fence followed", Failure(s_long, text => text.Replace("wgmma.fence.sync.aligned;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    private static string Failure(AttentionSetting setting, Func<string, string> change) => Assert.ThrowsAny<Exception>(() => Run(setting, change)).Message;

    private static void Run(AttentionSetting setting, Func<string, string> change)
    {
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true) { Change = text => text.Contains("wgmma", StringComparison.Ordinal) ? change(text) : throw new NotSupportedException("another kernel ran") };
        using AttentionProblem<BF16> problem = new(device, setting);
        problem.Forward();
        problem.AssertForward();
    }
}
