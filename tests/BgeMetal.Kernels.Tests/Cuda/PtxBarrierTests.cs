using System.Text.RegularExpressions;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Every instruction that orders the threads of a kernel taken out of its text, one at a time: <see cref="PtxChecks"/> must miss it. This shows at once that mistakes in real kernels
/// are found and that the kernels wait for nothing in vain.
/// </summary>
public sealed partial class PtxBarrierTests
{
    private static readonly Action<PtxDevice>[] s_operations =
    [
        device => Multiply<BF16>(device, 20, 264, 40),
        device => Multiply<BF16>(device, 20, 64, 40),
        device => Multiply<FP32>(device, 9, 24, 20),
        device => Attend<BF16>(device, new(1, 32, 70)),
        device => Attend<BF16>(device, new(1, 32, [2], [0])),
        device => Attend<FP32>(device, new(1, 32, 70)),
        device => Attend<FP32>(device, new(1, 32, [2], [0])),
        Sum,
        Normalise,
    ];

    // What the kernels have although nothing that can be interpreted here needs it, in each kernel so often at most.
    private static readonly (string Instruction, string Kernel, int Most, string Why)[] s_spare =
    [
        ("cp.async.wait_group 0", "Gemm_Multiply", 1, "behind the main loop only empty groups are left"),
        ("fence.proxy.async", "WarpGroupGemm", 1, "behind mbarrier.init the other fence does"),
        ("cp.async.wait_group 0", "Attention", 2, "a tile that nothing follows is fetched without rows, and binary32 rows are read behind the next wait"),
        ("bar.sync", "FP32_Head32", 1, "binary32 rows are read where they are used, behind the next barrier"),
        ("wgmma.fence", "AttentionBackward", 1, "the product issued just before has one"),
    ];

    [Fact]
    public void Every_barrier_wait_and_fence_of_the_kernels_is_missed() => AssertMissed(s_operations, hasWarpGroups: false, expected: 60);

    [Fact]
    public void Every_barrier_wait_and_fence_of_warp_groups_is_missed() => AssertMissed(
        [
            MultiplyByWarpGroups,
            device => MultiplyByWarpGroups(device, WarpGroupTiling.Pair128, 384, 128),
            device => Attend<BF16>(device, new(1, 32, 20)),
            device => Attend<BF16>(device, new(1, 32, 200)),
            device => Attend<BF16>(device, new(1, 32, [2], [0])),
        ], hasWarpGroups: true, expected: 20);

    [Fact]
    public void A_stage_that_is_read_or_filled_too_early_is_named_with_both_instructions()
    {
        string early = Failure(text => TransferWait().Replace(text, "setp.eq.b32 p, 0, 0;", 1));
        string over = Failure(text => text.Replace("wgmma.wait_group.sync.aligned 1", "wgmma.wait_group.sync.aligned 3", StringComparison.Ordinal));
        Assert.Matches("'wgmma.mma_async.* of warp 0 reads shared byte .*, which nobody wrote", early);
        Assert.Matches("'cp.async.bulk.tensor.* of thread 256 overwrites shared byte .*, which 'wgmma.mma_async.* of warp . reads with nothing between that orders them", over);
    }

    [Fact]
    public void What_threads_wrote_is_filled_by_the_copy_engine_behind_a_fence_alone()
    {
        string With(string between, string text) => Copy().Replace(text, match => $"st.shared.b32 [{match.Groups[1].Value}], 0;\n{between}{match.Value}", 1);
        Run(MultiplyByWarpGroups, hasWarpGroups: true, text => With("fence.proxy.async.shared::cta;\n", text));
        Assert.Matches("'cp.async.bulk.tensor.* of thread 256 overwrites shared byte .*, which 'st.shared.b32 .* of thread 256 writes with no fence.proxy.async behind it", Failure(text => With("", text)));
    }

    private static string Failure(Func<string, string> change) => Assert.Throws<InvalidOperationException>(() => Run(MultiplyByWarpGroups, hasWarpGroups: true, change)).Message;

    private static void AssertMissed(Action<PtxDevice>[] operations, bool hasWarpGroups, int expected)
    {
        Dictionary<string, List<Action<PtxDevice>>> launched = [];
        foreach (Action<PtxDevice> operation in operations)
            Run(operation, hasWarpGroups, text =>
            {
                if (!launched.TryGetValue(text, out List<Action<PtxDevice>>? by)) launched.Add(text, by = []);
                by.Add(operation);
                return text;
            });
        List<string> unmissed = [];
        int tried = 0;
        foreach ((string text, List<Action<PtxDevice>> by) in launched)
            foreach (Match order in Orders().Matches(text))
            {
                tried++;
                string what = $"{order.Value} in line {text[..order.Index].Count(c => c == '\n') + 1} of {EntryName().Match(text).Groups[1].Value}";
                if (!by.Any(operation => IsMissed(operation, hasWarpGroups, text, order))) unmissed.Add(what);
            }
        Assert.True(tried >= expected, $"{tried} instructions");
        foreach ((string instruction, string kernel, int most, _) in s_spare)
            foreach (IGrouping<string, string> one in unmissed.Where(what => what.StartsWith(instruction, StringComparison.Ordinal) && what.Contains(kernel, StringComparison.Ordinal))
                .GroupBy(what => what[what.LastIndexOf(' ')..]).ToArray())
                foreach (string what in one.Take(most)) unmissed.Remove(what);
        Assert.True(unmissed.Count == 0, string.Join(Environment.NewLine, unmissed));
    }

    private static bool IsMissed(Action<PtxDevice> operation, bool hasWarpGroups, string text, Match order)
    {
        try
        {
            Run(operation, hasWarpGroups, other => other == text ? text.Remove(order.Index, order.Length) : other);
            return false;
        }
        catch (InvalidOperationException)
        {
            return true;
        }
    }

    private static void Run(Action<PtxDevice> operation, bool hasWarpGroups, Func<string, string> change)
    {
        using PtxDevice device = new(1, hasWarpGroups) { Change = change };
        operation(device);
    }

    private static void Multiply<T>(PtxDevice device, int rows, int inputs, int outputs) where T : unmanaged, IElement
    {
        RandomData data = new(1);
        using DeviceTensor<T> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs), y = new(device, rows, outputs);
        Linear.Forward(device, new(rows, inputs, outputs), x.Matrix, w.Matrix, default, LinearActivation.None, default, default, y.Matrix, default);
    }

    private static void MultiplyByWarpGroups(PtxDevice device) => MultiplyByWarpGroups(device, WarpGroupTiling.Tile256, 64, 64);

    // Six stages through a ring of four or five, so that stages are filled again.
    private static void MultiplyByWarpGroups(PtxDevice device, WarpGroupTiling tiling, int rows, int outputs)
    {
        const int inputs = 384;
        RandomData data = new(31);
        using DeviceTensor<BF16> x = new(device, data.Integers(rows * inputs, 2), rows, inputs), w = new(device, data.Integers(outputs * inputs, 1), outputs, inputs);
        using DeviceTensor<FP32> y = new(device, rows, outputs, padding: 0);
        (GemmPlan.Choose<BF16, Nt>(device, rows, outputs, inputs, x.Matrix, w.Matrix, default) with { WarpGroups = tiling }).Run<BF16, Nt, Partial>(new(y.Start, rows, outputs));
    }

    private static void Attend<T>(PtxDevice device, AttentionSetting setting) where T : unmanaged, IElement
    {
        using AttentionProblem<T> problem = new(device, setting);
        problem.Forward();
        problem.Backward();
    }

    private static void Sum(PtxDevice device)
    {
        (int rows, int columns) = (70, 13);
        using DeviceTensor<BF16> dy = new(device, new RandomData(7).Integers(rows * columns, 8), rows, columns);
        using DeviceTensor<FP32> bias = new(device, new double[columns], 1, columns), work = new(device, 16, columns, padding: 0);
        Linear.BackwardBias(device, rows, columns, dy.Matrix, bias.Start, new Workspace(work.Start, 16L * columns));
    }

    private static void Normalise(PtxDevice device)
    {
        (int rows, int hidden) = (5, 264);
        RandomData data = new(3);
        using DeviceTensor<FP32> x = new(device, data.Uniform(rows * hidden), rows, hidden), gamma = new(device, data.Uniform(hidden), 1, hidden), dx = new(device, rows, hidden),
            mean = new(device, data.Uniform(rows), 1, rows), rstd = new(device, data.Uniform(rows), 1, rows), work = new(device, 6, hidden, padding: 0),
            parameters = new(device, new double[2 * hidden], 1, 2 * hidden);
        LayerNorm.Backward(device, x.Matrix, x.Matrix, rows, hidden, gamma.Start, mean.Start, rstd.Start, false, dx.Matrix, default, default,
            parameters.Start, new(parameters.Start.Address + (4L * hidden)), new(work.Start, 6L * hidden));
    }

    [GeneratedRegex(@"(?<![\w.])(bar\.sync|bar\.warp\.sync|barrier\.cluster\.wait|cp\.async\.wait_group|wgmma\.fence|wgmma\.wait_group|fence)\b[^;]*;")]
    private static partial Regex Orders();

    [GeneratedRegex(@"mbarrier\.try_wait[^;]*;")]
    private static partial Regex TransferWait();

    [GeneratedRegex(@"cp\.async\.bulk\.tensor[^\[]*\[([^\]]*)\]")]
    private static partial Regex Copy();

    [GeneratedRegex(@"\.entry\s+(\w+)")]
    private static partial Regex EntryName();
}
