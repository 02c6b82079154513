using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>What repeating one case showed.</summary>
/// <param name="Case">The operation, its pass, type and shape.</param>
/// <param name="Repeats">Runs that were compared with the first.</param>
/// <param name="Differing">Runs of which at least one bit was another.</param>
/// <param name="First">Where the first difference lies: operand and byte; empty for none.</param>
/// <param name="Error">What failed; empty for nothing.</param>
public sealed record RepeatResult(BenchCase Case, int Repeats, int Differing, string First, string Error)
{
    /// <summary>Why it was not run at all; empty when it was.</summary>
    public string LeftOut { get; init; } = "";

    /// <summary>Whether nothing failed and every run gave the same bits.</summary>
    public bool IsGood => Differing == 0 && Error.Length == 0;
}

/// <summary>
/// Runs every operation of <see cref="BenchTable"/> again and again from the same memory and compares everything it holds afterwards bit for bit. The workspace
/// holds other bytes before each run, so that a sum that reads what nothing wrote shows too.
/// </summary>
public static class RepeatCheck
{
    private const int ChunkBytes = 1 << 20;

    private static readonly Dictionary<string, int> s_small = new() { ["T"] = 1030, ["L"] = 130, ["U"] = 300, ["V"] = 3001, ["P"] = 100_003, ["G"] = 8 };

    /// <summary>Every operation in every type: at sizes that fill no tile, and (<paramref name="large"/>) at the table's first, which fill the device.</summary>
    public static IReadOnlyList<BenchCase> Cases(string filter, bool large) =>
        [.. KernelBench.CudaCases(filter).GroupBy(item => (item.Op, item.DType)).Select(same => same.First()).SelectMany(item => large ? new[] { Small(item), item } : [Small(item)])];

    /// <summary>Repeats on a GPU; cases whose operands take more than <paramref name="mostBytes"/> are left out and said to be.</summary>
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
            if (operands.SizeBytes > mostBytes) return new(item, 0, 0, "", "") { LeftOut = $"its operands take {operands.SizeBytes} bytes, at most {mostBytes} are compared" };
            device.Synchronize();
            int operandCount = operands.Memory.Count;
            using DeviceMemory backup = device.Allocate(operands.SizeBytes);
            Copy(device, operands, backup, restore: false);
            // Pinned, because most of the time goes into bringing the bytes back.
            using PinnedMemory actual = device.AllocatePinned(operands.SizeBytes);
            void Once(int run)
            {
                Copy(device, operands, backup, restore: true);
                // All ones are a NaN of every type; then zeros, then ordinary numbers.
                device.Fill(workspace.Address, (run % 3) switch { 0 => 0xff, 1 => 0, _ => 0x3f }, workspace.SizeBytes);
                call();
                long offset = 0;
                foreach (DeviceMemory memory in operands.Memory.Take(operandCount))
                {
                    device.CopyToHost(memory.Address, actual.Address + (nint)offset, memory.SizeBytes);
                    offset += memory.SizeBytes;
                }
                device.Synchronize();
            }
            Once(0);
            if (operands.Memory.Count != operandCount) return new(item, 0, 0, "", "its call allocates memory");
            byte[] expected = actual.Span<byte>().ToArray();
            int differing = 0;
            string first = "";
            for (int run = 1; run <= repeats; run++)
            {
                Once(run);
                long difference = Difference(expected, actual);
                if (difference == expected.Length) continue;
                differing++;
                if (first.Length == 0) first = $"run {run}, {Place(operands, difference)}";
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

    /// <summary>The first byte that differs, or the length.</summary>
    private static long Difference(byte[] expected, PinnedMemory actual)
    {
        long first = expected.Length;
        Parallel.For(0, (expected.Length + ChunkBytes - 1) / ChunkBytes, chunk =>
        {
            int start = chunk * ChunkBytes, length = Math.Min(ChunkBytes, expected.Length - start);
            int same = expected.AsSpan(start, length).CommonPrefixLength(actual.Span<byte>().Slice(start, length));
            long found = start + same, before = Volatile.Read(ref first);
            while (same < length && found < before) before = Interlocked.CompareExchange(ref first, found, before) is var seen && seen == before ? found : seen;
        });
        return first;
    }

    private static string Place(CudaOperands operands, long position)
    {
        int index = 0;
        while (position >= operands.Memory[index].SizeBytes) position -= operands.Memory[index++].SizeBytes;
        return $"operand {index}, byte {position} of {operands.Memory[index].SizeBytes}";
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
