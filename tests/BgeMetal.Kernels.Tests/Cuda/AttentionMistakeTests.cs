using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Each thing that keeps attention's kernels for warp groups in order, taken out of their text: the interpreter must notice every one.</summary>
public sealed class AttentionMistakeTests
{
    private const string Forward = "WarpGroupAttention_Attend", Keys = "WarpGroupAttentionBackward_Keys", Queries = "WarpGroupAttentionBackward_Queries", Short = "ShortAttentionBackward_Gradients";
    private static readonly AttentionSetting s_long = new(1, 64, 130), s_short = new(1, 64, 100);

    [Fact]
    public void A_text_that_is_not_changed_gives_the_same_bits()
    {
        Assert.True(AreRight(s_long, Forward, text => text));
        Assert.True(AreRight(s_long, Keys, text => text));
        Assert.True(AreRight(s_short, Short, text => text));
    }

    [Theory, InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Touching_scores_before_their_product_is_done_is_refused(string kernel) =>
        Assert.Contains("a register is touched", Failure(kernel, text => text.Replace("wgmma.wait_group.sync.aligned 1", "wgmma.wait_group.sync.aligned 2", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Theory, InlineData(Forward), InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Sums_that_were_not_waited_for_are_refused(string kernel) =>
        Assert.Matches("a register is (touched|written) while", Failure(kernel, text => text.Replace("wgmma.wait_group.sync.aligned 0", "wgmma.wait_group.sync.aligned 4", StringComparison.Ordinal)));

    [Theory, InlineData(Forward), InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Weights_that_were_written_need_a_fence(string kernel) =>
        Assert.Contains("no wgmma.fence followed", Failure(kernel, text => text.Replace("wgmma.fence.sync.aligned;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Theory, InlineData(Forward, 0), InlineData(Keys, 1), InlineData(Queries, 1), InlineData(Short, 0)]
    public void Tiles_that_have_not_come_are_not_read_unnoticed(string kernel, int wait) =>
        Assert.Contains("is still filling", Failure(kernel, text => Without(text, @"cp\.async\.wait_group 0;", wait)), StringComparison.Ordinal);

    [Theory, InlineData(Forward), InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Tiles_that_were_copied_must_be_published_to_the_tensor_cores(string kernel) =>
        Assert.Contains("no fence.proxy.async behind it", Failure(kernel, text => text.Replace("fence.proxy.async.shared::cta;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Theory]
    [InlineData(Forward, 0)]
    [InlineData(Forward, 1)]
    [InlineData(Keys, 0)]
    [InlineData(Keys, 1)]
    [InlineData(Queries, 0)]
    [InlineData(Queries, 1)]
    [InlineData(Short, 0)]
    [InlineData(Short, 1)]
    [InlineData(Short, 2)]
    public void Every_barrier_is_needed(string kernel, int barrier) =>
        Assert.Contains("shared byte", Failure(kernel, text => Without(text, @"bar\.sync\s+0;", barrier)), StringComparison.Ordinal);

    private static AttentionSetting SettingOf(string kernel) => kernel == Short ? s_short : s_long;

    private static string Failure(string kernel, Func<string, string> change) => Assert.Throws<InvalidOperationException>(() => AreRight(SettingOf(kernel), kernel, change)).Message;

    private static bool AreRight(AttentionSetting setting, string kernel, Func<string, string> change)
    {
        string before = "";
        float[] right = Gradients(setting, text => text), changed = Gradients(setting, text => text.Contains($".entry {kernel}", StringComparison.Ordinal) ? change(before = text) : text);
        Assert.Contains("wgmma.mma_async", before, StringComparison.Ordinal);
        return right.AsSpan().SequenceEqual(changed);
    }

    private static float[] Gradients(AttentionSetting setting, Func<string, string> change)
    {
        using PtxDevice device = new(multiProcessors: 1, hasWarpGroups: true) { Change = change };
        using AttentionProblem<BF16> problem = new(device, setting);
        problem.Forward();
        problem.Backward();
        return problem.Gradients();
    }

    private static string Without(string text, string pattern, int number)
    {
        Match match = Regex.Matches(text, pattern)[number];
        return text.Remove(match.Index, match.Length);
    }
}
