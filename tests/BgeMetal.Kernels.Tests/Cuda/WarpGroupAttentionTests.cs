using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Attention on a device with warp groups: what every device must do, and the edges of these kernels' tiles.</summary>
public abstract class WarpGroupAttentionTests(KernelDevice device) : AttentionTests(device)
{
    /// <summary>
    /// Heads of 32 and 64 columns and lengths that leave a group idle, half full, full by one and one short, in one tile, in two and in three; sequences without rows among them.
    /// </summary>
    public static TheoryData<int, int[]> Edges => new()
    {
        { 64, [63, 0, 64] }, { 32, [65, 16, 1] }, { 64, [128, 3] }, { 32, [127] }, { 64, [129] }, { 32, [130, 0, 70] }, { 48, [193] }, { 64, [16, 131, 1] },
    };

    [Theory, MemberData(nameof(Edges))]
    public void Edges_of_tiles_agree_with_the_oracle(int headDim, int[] lengths) => Check<BF16>(new(1, headDim, lengths));

    [Theory, InlineData(32, 0, 66), InlineData(64, 0, 66), InlineData(32, 0, 131), InlineData(64, 0, 131)]
    public void Dropout_agrees_with_the_oracle_at_every_size(int headDim, params int[] lengths) =>
        Check<BF16>(new(1, headDim, lengths) { Dropout = 0.25f, FirstQuery = 7 });

    [Theory, InlineData(32), InlineData(64)]
    public void Queries_and_keys_may_differ_in_number(int headDim)
    {
        Check<BF16>(new(1, headDim, [1, 1, 0, 1], [65, 128, 9, 2]));
        Check<BF16>(new(1, headDim, [1, 70, 3], [140, 10, 0]));
        Check<FP16>(new(1, headDim, [67, 0], [5, 20]) { Dropout = 0.1f });
        Check<BF16>(new(1, headDim, [130], [3]));
    }

    [Theory, InlineData(64), InlineData(128), InlineData(130)]
    public void A_rerun_is_bit_equal_at_every_size(int length)
    {
        using AttentionProblem<BF16> problem = new(Device, new(1, 32, length, 3) { Dropout = 0.1f });
        problem.Forward();
        problem.Backward();
        float[] gradients = problem.Gradients();
        problem.Backward();
        Tolerance.AssertBitEqual(problem.Gradients(), gradients, "gradients");
    }

    [Fact]
    public void Scores_far_from_zero_leave_nothing_infinite_behind_the_last_key()
    {
        foreach (int length in new[] { 20, 100, 150 }) Check<BF16>(new(1, 64, length) { Apart = 6 });
    }

    [Fact]
    public void The_family_is_chosen_by_type_head_mask_and_length()
    {
        Assert.Equal(new(AttentionFamily.ShortWarpGroups, 64), Plan<BF16>(64, 64, 40));
        Assert.Equal(new(AttentionFamily.ShortWarpGroups, 128), Plan<FP16>(1, 65, 64));
        Assert.Equal(new(AttentionFamily.ShortWarpGroups, 128), Plan<BF16>(128, 3, 8));
        Assert.Equal(new(AttentionFamily.WarpGroups, 128), Plan<BF16>(1, 129, 32));
        Assert.Equal(new(AttentionFamily.Warps, 64), Plan<BF16>(64, 64, 72));
        Assert.Equal(new(AttentionFamily.Warps, 64), Plan<FP32>(64, 64, 64));
        Assert.Equal(new(AttentionFamily.Warps, 64), Plan<BF16>(64, 64, 64, masked: true));
        Assert.Equal((3, 0), (new AttentionPlan(AttentionFamily.WarpGroups, 128).Tiles(257), new AttentionPlan(AttentionFamily.WarpGroups, 128).Tiles(0)));

        AttentionPlan Plan<T>(int queries, int keys, int headDim, bool masked = false) where T : unmanaged, IElement =>
            AttentionPlan.Backward<T>(Device, new(2, 2 * queries, queries, keys, 1, headDim, 1), masked);
    }
}

/// <summary>On the emulated device with warp groups: the intrinsics' C# bodies.</summary>
public sealed class EmulatedWarpGroupAttentionTests(WarpGroupEmulation fixture) : WarpGroupAttentionTests(fixture.Device), IClassFixture<WarpGroupEmulation>;

/// <summary>From the text for sm_90a, with copies and products that finish as late as they may.</summary>
public sealed class PtxWarpGroupAttentionTests(WarpGroupInterpreter fixture) : WarpGroupAttentionTests(fixture.Device), IClassFixture<WarpGroupInterpreter>;

/// <summary>On a GPU that has the instructions, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuWarpGroupAttentionTests(GpuFixture fixture) : WarpGroupAttentionTests(fixture.HopperOrSkip());
