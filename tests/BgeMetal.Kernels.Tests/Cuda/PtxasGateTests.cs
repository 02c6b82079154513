using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using BgeMetal.Kernels.Reports;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Every kernel, as the assembler sees it. The committed table ptxas.csv holds what each kernel costs; set BGEMETAL_PTXAS_UPDATE=1 to write it anew
/// after a deliberate change.
/// </summary>
public sealed partial class PtxasGateTests
{
    private const string Header = "kernel,architecture,threads,registers,shared_bytes,tensor_core_instructions,instructions";
    private static readonly string[] s_targets = ["sm_80", "sm_90"];
    private static readonly Lazy<Dictionary<(KernelDescriptor Kernel, string Target), string>> s_texts = new(CompileAll);
    private static readonly Lazy<Dictionary<(KernelDescriptor Kernel, string Target), AssembledKernel>> s_assembled = new(AssembleAll);

    private static string TablePath { get; } = Path.Combine(AppContext.BaseDirectory, "Cuda", "ptxas.csv");

    [Fact]
    public void Every_kernel_assembles_without_spills_stack_or_warnings()
    {
        Ptxas.RequireOrSkip();
        string[] faults = [.. s_assembled.Value
            .Where(e => e.Value is not { SpillBytes: 0, StackBytes: 0, Warnings: "" })
            .Select(e => $"{e.Key.Kernel} {e.Key.Target}: {e.Value}")];
        Assert.Empty(faults);
    }

    [Fact]
    public void Registers_of_all_blocks_that_must_fit_do_fit()
    {
        Ptxas.RequireOrSkip();
        string[] faults = [.. s_assembled.Value
            .Where(e => (e.Value.Registers + 7) / 8 * 8 * e.Key.Kernel.Threads * e.Key.Kernel.MinBlocks > 65536)
            .Select(e => $"{e.Key.Kernel} {e.Key.Target}: {e.Value.Registers} registers")];
        Assert.Empty(faults);
    }

    [Fact]
    public void Tensor_core_kernels_contain_matrix_instructions_and_others_do_not()
    {
        Ptxas.RequireOrSkip();
        string[] faults = [.. s_assembled.Value
            .Where(e => e.Value.TensorCoreInstructions > 0 != e.Key.Kernel.TensorCores)
            .Select(e => $"{e.Key.Kernel} {e.Key.Target}: {e.Value.TensorCoreInstructions} HMMA or HGMMA")];
        Assert.Empty(faults);
        Assert.Contains(s_assembled.Value.Keys, key => key.Kernel.TensorCores);
    }

    [Fact]
    public void Warp_group_products_are_compiled_for_their_one_architecture_and_have_their_registers_moved()
    {
        KernelDescriptor[] kernels = [.. s_texts.Value.Keys.Where(key => key.Target == "sm_90a").Select(key => key.Kernel)];
        Assert.NotEmpty(kernels);
        foreach (KernelDescriptor kernel in kernels)
        {
            string text = s_texts.Value[(kernel, "sm_90a")];
            Assert.False(kernel.RunsOn("sm_80") || kernel.RunsOn("sm_100"));
            Assert.DoesNotContain(s_texts.Value.Keys, key => key.Kernel == kernel && key.Target != "sm_90a");
            Assert.Contains("wgmma.mma_async", text, StringComparison.Ordinal);
            Assert.Equal(kernel.Name.StartsWith("WarpGroupGemm", StringComparison.Ordinal), text.Contains("cp.async.bulk.tensor", StringComparison.Ordinal));
            Assert.Equal(kernel.Name.Contains("Tile256", StringComparison.Ordinal), text.Contains("setmaxnreg.inc", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void Calls_keep_their_order_so_that_products_are_waited_for_behind_their_issue()
    {
        // What ILGPU's placement of code does when it is let: KeepCallsInOrder.
        string text = s_texts.Value.First(e => e.Key.Kernel.Name == "WarpGroupAttention.Attend.BF16.Head64.Rows128.Off").Value;
        string[] order = [.. Issue().Matches(text).Select(match => match.Value)];
        Assert.Equal(["bar.sync", "wgmma.commit_group", "wgmma.wait_group", "bar.sync", "cp.async.cg", "wgmma.commit_group", "wgmma.commit_group", "wgmma.wait_group"],
            order.SkipWhile(call => call != "bar.sync").Aggregate(new List<string>(), Collapse).Take(8));

        static List<string> Collapse(List<string> calls, string call)
        {
            if (call != "cp.async.cg" || calls[^1] != call) calls.Add(call);
            return calls;
        }
    }

    [Fact]
    public void The_assembler_is_heard_when_it_serializes_products_or_ignores_setmaxnreg()
    {
        Ptxas.RequireOrSkip();
        string text = PtxCompiler.Compile(KernelRegistry.All.Single(k => k.Name == "WarpGroupGemm.Multiply.BF16.Nt.WarpGroupTile256.Partial"), "sm_90a");
        string accumulator = FirstAccumulator().Match(text).Groups[1].Value, wait = "wgmma.wait_group.sync.aligned 1;";
        Assert.Contains("C7514", Ptxas.Assemble(text.Replace(wait, $"{wait} add.f32 {accumulator}, {accumulator}, {accumulator};", StringComparison.Ordinal), "sm_90a").Warnings, StringComparison.Ordinal);
        Assert.Contains("C7508", Ptxas.Assemble(LaunchBounds().Replace(text, ""), "sm_90a").Warnings, StringComparison.Ordinal);
    }

    [Fact]
    public void Kernels_with_asynchronous_copies_have_no_local_memory_in_their_text()
    {
        string[] faults = [.. s_texts.Value
            .Where(e => e.Value.Contains("cp.async", StringComparison.Ordinal) && Local().IsMatch(e.Value))
            .Select(e => $"{e.Key.Kernel} {e.Key.Target}")];
        Assert.Empty(faults);
    }

    [Fact]
    public void Costs_are_those_of_the_committed_table()
    {
        Ptxas.RequireOrSkip();
        string[] actual = [$"# ptxas {Ptxas.Release}", Header, .. s_assembled.Value
            .OrderBy(e => e.Key.Kernel.Name, StringComparer.Ordinal).ThenBy(e => e.Key.Target, StringComparer.Ordinal)
            .Select(e => Row(e.Key.Kernel, e.Key.Target, e.Value))];
        if (Environment.GetEnvironmentVariable("BGEMETAL_PTXAS_UPDATE") == "1")
            foreach (string path in new[] { TablePath, Path.Combine(ThisFolder(), "ptxas.csv") }) File.WriteAllText(path, string.Join('\n', actual) + "\n");
        string[] expected = File.ReadAllText(TablePath).TrimEnd().Split('\n');
        Assert.SkipUnless(expected[0] == actual[0], $"the table is of {expected[0].TrimStart('#', ' ')}, this is ptxas {Ptxas.Release}");
        Assert.Equal(expected, actual);
    }

    [Fact]
    public void The_parameter_block_of_every_kernel_is_its_argument_struct_byte_for_byte()
    {
        foreach (((KernelDescriptor kernel, _), string ptx) in s_texts.Value)
        {
            Match parameter = Parameter().Match(ptx);
            int size = (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(kernel.ArgumentType).Invoke(null, null)!;
            Assert.True(parameter.Success, kernel.Name);
            Assert.Equal((kernel.Name, size), (kernel.Name, int.Parse(parameter.Groups[1].Value, CultureInfo.InvariantCulture)));
        }
    }

    [Fact]
    public void Compiling_a_kernel_again_gives_the_same_text()
    {
        // Texts with labels of their own most of all: they were what changed.
        (KernelDescriptor Kernel, string Target)[] chosen = [.. s_texts.Value.OrderBy(entry => entry.Key.Kernel.Name, StringComparer.Ordinal)
            .Where((entry, i) => i % (entry.Value.Contains("try_wait", StringComparison.Ordinal) || entry.Value.Contains("nounroll", StringComparison.Ordinal) ? 3 : 20) == 0)
            .Select(entry => entry.Key)];
        Parallel.ForEach(chosen, key => Assert.Equal(s_texts.Value[key], PtxCompiler.Compile(key.Kernel, key.Target)));
    }

    private static Dictionary<(KernelDescriptor, string), string> CompileAll()
    {
        ConcurrentDictionary<(KernelDescriptor, string), string> texts = [];
        Parallel.ForEach(from kernel in KernelRegistry.All from target in s_targets where kernel.RunsOn(target) select (kernel, target: kernel.TargetFor(target)),
            item => texts[item] = PtxCompiler.Compile(item.kernel, item.target));
        return new(texts);
    }

    private static Dictionary<(KernelDescriptor, string), AssembledKernel> AssembleAll()
    {
        ConcurrentDictionary<(KernelDescriptor, string), AssembledKernel> results = [];
        Parallel.ForEach(s_texts.Value, item => results[item.Key] = Ptxas.Assemble(item.Value, item.Key.Target));
        return new(results);
    }

    private static string Row(KernelDescriptor kernel, string target, AssembledKernel assembled) => string.Create(CultureInfo.InvariantCulture,
        $"{kernel.Name},{target},{kernel.Threads},{assembled.Registers},{kernel.SharedBytes + assembled.StaticSharedBytes},{assembled.TensorCoreInstructions},{assembled.Instructions}");

    private static string ThisFolder([CallerFilePath] string path = "") => Path.GetDirectoryName(path)!;

    [GeneratedRegex(@"wgmma\.mma_async[^{]*\{(%f\d+),")]
    private static partial Regex FirstAccumulator();

    [GeneratedRegex(@"\.maxntid.*\n|\.minnctapersm.*\n")]
    private static partial Regex LaunchBounds();

    [GeneratedRegex(@"bar\.sync|cp\.async\.cg|wgmma\.(commit|wait)_group")]
    private static partial Regex Issue();

    [GeneratedRegex(@"\.local\b")]
    private static partial Regex Local();

    [GeneratedRegex(@"\.entry\s+\w+\(\s*\.param \.align \d+ \.b8 \w+\[(\d+)\]\s*\)")]
    private static partial Regex Parameter();
}
