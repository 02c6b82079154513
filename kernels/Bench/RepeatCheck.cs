using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>What repeating one case showed.</summary>
/// <param name="Case">The operation, its pass, type and shape.</param>
/// <param name="Repeats">Runs that were compared with the first.</param>
/// <param name="Differing">Runs of which at least one bit was another.</param>
/// <param name="First">Where the first difference lies: operand and byte; empty for none.</param>
/// <param name="Error">Why it did not run; empty when it did.</param>
public sealed record RepeatResult(BenchCase Case, int Repeats, int Differing, string First, string Error)
{
    /// <summary>Whether it ran and every run gave the same bits.</summary>
    public bool IsGood => Differing == 0 && Error.Length == 0;
}

/// <summary>
/// Runs every operation of <see cref="BenchTable"/> again and again from the same memory and compares everything it holds afterwards bit for bit. The workspace
/// holds other bytes before each run, so that a sum that reads what nothing wrote shows too.
/// </summary>
public static class RepeatCheck
{
    private static readonly Dictionary<string, int> s_small = new() { ["T"] = 1030, ["L"] = 130, ["U"] = 300, ["V"] = 3001, ["P"] = 100_003, ["G"] = 8 };

    /// <summary>Every operation in every type: at sizes that fill no tile, and (<paramref name="large"/>) at the table's first, which fill the device.</summary>
    public static IReadOnlyList<BenchCase> Cases(string filter, bool large) =>
        [.. KernelBench.CudaCases(filter).GroupBy(item => (item.Op, item.DType)).Select(same => same.First()).SelectMany(item => large ? new[] { Small(item), item } : [Small(item)])];

    /// <summary>Repeats on a GPU; cases whose operands take more than <paramref name="mostBytes"/> are reported as not run.</summary>
    public static IEnumerable<RepeatResult> Run(CudaDevice device, IReadOnlyList<BenchCase> cases, int repeats, long mostBytes = 768L << 20) =>
        Run(device, cases, repeats, mostBytes, Linear.AmpleWorkspace);

    internal static IEnumerable<RepeatResult> Run(KernelDevice device, IReadOnlyList<BenchCase> cases, int repeats, long mostBytes, long workspaceLength)
    {
        using DeviceMemory workspace = device.Allocate(workspaceLength * sizeof(float));
        RandomPatterns patterns = new();
        foreach (BenchCase item in cases) yield return Repeat(device, item, repeats, mostBytes, workspace, patterns);
    }

    private static RepeatResult Repeat(KernelDevice device, BenchCase item, int repeats, long mostBytes, DeviceMemory workspace, RandomPatterns patterns)
    {
        try
        {
            using CudaOperands operands = new(device, new Workspace(workspace.Slice<FP32>(0, workspace.SizeBytes / sizeof(float)), workspace.SizeBytes / sizeof(float)), patterns);
            Action call = item.Op.Cuda!(operands, item.Shape, item.DType);
            if (operands.SizeBytes > mostBytes) return new(item, 0, 0, "", $"its operands take {operands.SizeBytes} bytes, at most {mostBytes} are compared");
            device.Synchronize();
            using DeviceMemory backup = device.Allocate(operands.SizeBytes);
            Copy(device, operands, backup, restore: false);
            byte[][] expected = Bytes(operands), actual = Bytes(operands);
            void Once(int run, byte[][] result)
            {
                Copy(device, operands, backup, restore: true);
                // All ones are a NaN of every type; then zeros, then ordinary numbers.
                device.Fill(workspace.Address, (run % 3) switch { 0 => 0xff, 1 => 0, _ => 0x3f }, workspace.SizeBytes);
                call();
                for (int i = 0; i < result.Length; i++) device.Download(operands.Memory[i].Slice<byte>(0, result[i].Length), result[i]);
            }
            Once(0, expected);
            int differing = 0;
            string first = "";
            for (int run = 1; run <= repeats; run++)
            {
                Once(run, actual);
                string? difference = Difference(expected, actual);
                if (difference is null) continue;
                differing++;
                if (first.Length == 0) first = $"run {run}, {difference}";
            }
            return new(item, repeats, differing, first, "");
        }
        catch (DeviceException e)
        {
            return new(item, 0, 0, "", e.Message);
        }
    }

    private static void Copy(KernelDevice device, CudaOperands operands, DeviceMemory backup, bool restore)
    {
        long offset = backup.Address;
        foreach (DeviceMemory memory in operands.Memory)
        {
            if (restore) device.Copy(offset, memory.Address, memory.SizeBytes);
            else device.Copy(memory.Address, offset, memory.SizeBytes);
            offset += memory.SizeBytes;
        }
    }

    private static byte[][] Bytes(CudaOperands operands) => [.. operands.Memory.Select(memory => new byte[checked((int)memory.SizeBytes)])];

    private static string? Difference(byte[][] expected, byte[][] actual)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            int same = expected[i].AsSpan().CommonPrefixLength(actual[i]);
            if (same < expected[i].Length) return $"operand {i}, byte {same} of {expected[i].Length}";
        }
        return null;
    }

    // B is a number of sequences, of queries, or of rows; N is a width, but for the rows of a corpus.
    private static BenchCase Small(BenchCase item)
    {
        bool hasSequences = item.Shape.Names.Contains("L"), isCorpus = item.Op.Stem == "TopK";
        return item with
        {
            Shape = item.Shape.With((name, value) => Math.Min(value, name switch
            {
                "B" => hasSequences ? 23 : 130,
                "N" when isCorpus => 20_001,
                _ => s_small.GetValueOrDefault(name, value),
            })),
        };
    }
}
