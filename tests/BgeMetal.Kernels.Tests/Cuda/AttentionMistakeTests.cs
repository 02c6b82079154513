using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Each thing that keeps attention's backward kernels for warp groups in order, taken out of their text: the interpreter must notice every one.</summary>
public sealed class AttentionMistakeTests
{
    private const string Keys = "WarpGroupAttentionBackward_Keys", Queries = "WarpGroupAttentionBackward_Queries", Short = "ShortAttentionBackward_Gradients";
    private static readonly AttentionSetting s_long = new(1, 64, 130), s_short = new(1, 64, 100);

    [Fact]
    public void A_text_that_is_not_changed_gives_the_same_bits()
    {
        Assert.True(AreRight(s_long, Keys, text => text));
        Assert.True(AreRight(s_short, Short, text => text));
    }

    [Theory, InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Touching_scores_before_their_product_is_done_is_refused(string kernel) =>
        Assert.Contains("a register is touched", Failure(kernel, text => text.Replace("wgmma.wait_group.sync.aligned 1", "wgmma.wait_group.sync.aligned 2", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Theory, InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Sums_that_were_not_waited_for_are_refused(string kernel) =>
        Assert.Matches("a register is (touched|written) while", Failure(kernel, text => text.Replace("wgmma.wait_group.sync.aligned 0", "wgmma.wait_group.sync.aligned 4", StringComparison.Ordinal)));

    [Theory, InlineData(Keys), InlineData(Queries), InlineData(Short)]
    public void Weights_that_were_written_need_a_fence(string kernel) =>
        Assert.Contains("no wgmma.fence followed", Failure(kernel, text => text.Replace("wgmma.fence.sync.aligned;", "", StringComparison.Ordinal)), StringComparison.Ordinal);

    [Theory, InlineData(Keys, 1), InlineData(Queries, 1), InlineData(Short, 0)]
    public void Products_of_tiles_that_have_not_come_give_wrong_numbers(string kernel, int wait) =>
        Assert.False(AreRight(SettingOf(kernel), kernel, text => Without(text, @"cp\.async\.wait_group 0;", wait)));

    [Theory]
    [InlineData("between the deltas and their use", 1)]
    [InlineData("between the gradients of scores and their products", 2)]
    [InlineData("between those products and the results in the place of what they read", 3)]
    public void Every_barrier_of_the_short_kernel_is_needed(string place, int barrier) =>
        Assert.False(AreRight(s_short, Short, text => Without(text, @"bar\.sync\s+0;", barrier)), place);

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
