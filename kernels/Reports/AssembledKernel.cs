using System.Buffers.Binary;
using System.Globalization;
using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Reports;

/// <summary>What ptxas made of one kernel.</summary>
/// <param name="Registers">Registers of a thread.</param>
/// <param name="StackBytes">Stack of a thread.</param>
/// <param name="SpillBytes">Stores and loads of spilled registers, in bytes.</param>
/// <param name="StaticSharedBytes">Statically declared shared memory of a block.</param>
/// <param name="TensorCoreInstructions">HMMA and HGMMA instructions in the text.</param>
/// <param name="Instructions">All instructions in the text, without the padding.</param>
/// <param name="Warnings">The assembler's warnings, one a line; empty for none.</param>
public sealed record AssembledKernel(int Registers, int StackBytes, int SpillBytes, int StaticSharedBytes, int TensorCoreInstructions, int Instructions,
    string Warnings)
{
    /// <summary>Instructions by name, most frequent first; empty where there is no cuobjdump.</summary>
    public IReadOnlyList<KeyValuePair<string, int>> InstructionMix { get; init; } = [];
}

/// <summary>Assembles PTX with NVIDIA's ptxas and reads its report and its output.</summary>
internal static partial class KernelAssembler
{
    private static readonly string? s_ptxas = CudaToolkit.Find("ptxas"), s_cuobjdump = CudaToolkit.Find("cuobjdump");

    /// <summary>Whether there is an assembler on this machine.</summary>
    public static bool IsAvailable => s_ptxas is not null;

    /// <summary>The assembler's release, for example 12.4: its numbers change from release to release.</summary>
    public static string Release { get; } = s_ptxas is null ? "" : ReleaseNumber().Match(CudaToolkit.Run(s_ptxas, "--version")).Groups[1].Value;

    /// <summary>Assembles <paramref name="ptx"/> for <paramref name="target"/> and counts the result's instructions.</summary>
    /// <param name="ptx">The text that would be loaded.</param>
    /// <param name="target">sm_80, sm_90, ...</param>
    /// <param name="mix">Also list the instructions by name, where there is a cuobjdump.</param>
    /// <exception cref="InvalidOperationException">There is no ptxas, or it refused the text; the message holds its output.</exception>
    public static AssembledKernel Assemble(string ptx, string target, bool mix = false)
    {
        if (s_ptxas is null) throw new InvalidOperationException("there is no ptxas on this machine");
        DirectoryInfo folder = Directory.CreateTempSubdirectory("bgemetal-ptxas-");
        try
        {
            string source = Path.Combine(folder.FullName, "kernel.ptx"), cubin = Path.Combine(folder.FullName, "kernel.cubin");
            File.WriteAllText(source, ptx);
            string report = CudaToolkit.Run(s_ptxas, "-v", $"-arch={target}", source, "-o", cubin);
            (int instructions, int tensorCore) = CountInstructions(File.ReadAllBytes(cubin));
            string[] warnings = [.. report.Split('\n').Where(l => l.Contains("warning", StringComparison.OrdinalIgnoreCase) || l.Contains("C75", StringComparison.Ordinal))];
            return new AssembledKernel(Number(report, Registers()), Number(report, Stack()), Number(report, SpillStores()) + Number(report, SpillLoads()),
                Number(report, Shared()), tensorCore, instructions, string.Join('\n', warnings))
            {
                InstructionMix = mix && s_cuobjdump is not null ? CountByName(CudaToolkit.Run(s_cuobjdump, "--dump-sass", cubin)) : [],
            };
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Counts a listing's instructions by name, without predicates, modifiers and padding; most frequent first.</summary>
    internal static IReadOnlyList<KeyValuePair<string, int>> CountByName(string listing) =>
        [.. Instruction().Matches(listing).Select(match => match.Groups[1].Value).Where(name => name != "NOP")
            .CountBy(name => name).OrderByDescending(pair => pair.Value).ThenBy(pair => pair.Key, StringComparer.Ordinal)];

    // Reads the code sections of the ELF file: from compute capability 7.0 on an instruction is 16 bytes, with its opcode in the lowest 12 bits.
    private static (int Instructions, int TensorCore) CountInstructions(ReadOnlySpan<byte> elf)
    {
        const int noOperation = 0x918, matrixMultiply = 0x23c, warpGroupMultiply = 0x9f0, withRegisters = 0xdf0, headerBytes = 64;
        int sections = (int)BinaryPrimitives.ReadInt64LittleEndian(elf[0x28..]), count = BinaryPrimitives.ReadUInt16LittleEndian(elf[0x3C..]);
        ReadOnlySpan<byte> nameSection = elf[(sections + (BinaryPrimitives.ReadUInt16LittleEndian(elf[0x3E..]) * headerBytes))..];
        int names = (int)BinaryPrimitives.ReadInt64LittleEndian(nameSection[24..]), instructions = 0, tensorCore = 0;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = elf[(sections + (i * headerBytes))..];
            if (!elf[(names + BinaryPrimitives.ReadInt32LittleEndian(header))..].StartsWith(".text."u8)) continue;
            ReadOnlySpan<byte> code = elf.Slice((int)BinaryPrimitives.ReadInt64LittleEndian(header[24..]), (int)BinaryPrimitives.ReadInt64LittleEndian(header[32..]));
            for (; code.Length >= 16; code = code[16..])
            {
                int opcode = BinaryPrimitives.ReadUInt16LittleEndian(code) & 0xFFF;
                if (opcode != noOperation) instructions++;
                if (opcode is matrixMultiply or warpGroupMultiply or withRegisters) tensorCore++;
            }
        }
        return (instructions, tensorCore);
    }

    private static int Number(string report, Regex pattern)
    {
        Match match = pattern.Match(report);
        return match.Success ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
    }

    [GeneratedRegex(@"release (\d+\.\d+)")]
    private static partial Regex ReleaseNumber();

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex Registers();

    [GeneratedRegex(@"(\d+) bytes stack frame")]
    private static partial Regex Stack();

    [GeneratedRegex(@"(\d+) bytes spill stores")]
    private static partial Regex SpillStores();

    [GeneratedRegex(@"(\d+) bytes spill loads")]
    private static partial Regex SpillLoads();

    [GeneratedRegex(@"(\d+) bytes smem")]
    private static partial Regex Shared();

    // "        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;"
    [GeneratedRegex(@"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)[.\s;]", RegexOptions.Multiline)]
    private static partial Regex Instruction();
}
