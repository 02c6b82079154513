using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What ptxas made of one kernel.</summary>
internal sealed record AssembledKernel(int Registers, int StackBytes, int SpillBytes, int StaticSharedBytes, int TensorCoreInstructions, int Instructions,
    string Warnings);

/// <summary>NVIDIA's assembler, where the machine has one: the environment variable PTXAS, the PATH, or ~/.cache/bgemetal/cuda/bin.</summary>
internal static partial class Ptxas
{
    private static readonly string? s_path = Find();

    /// <summary>Skips the calling test, with the reason, where there is no ptxas.</summary>
    public static void RequireOrSkip() => Assert.SkipUnless(s_path is not null, "no ptxas: set PTXAS, or put a CUDA toolkit's bin on the PATH");

    /// <summary>The assembler's release, for example 12.4: its numbers change from release to release.</summary>
    public static string Release { get; } = s_path is null ? "" : ReleaseNumber().Match(Run(s_path, "--version")).Groups[1].Value;

    /// <summary>Assembles <paramref name="ptx"/> for <paramref name="target"/> and counts the result's instructions.</summary>
    /// <exception cref="InvalidOperationException">ptxas refused the text; the message holds its output.</exception>
    public static AssembledKernel Assemble(string ptx, string target)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("bgemetal-ptxas-");
        try
        {
            string source = Path.Combine(folder.FullName, "kernel.ptx"), cubin = Path.Combine(folder.FullName, "kernel.cubin");
            File.WriteAllText(source, ptx);
            string report = Run(s_path!, "-v", $"-arch={target}", source, "-o", cubin);
            (int instructions, int tensorCore) = CountInstructions(File.ReadAllBytes(cubin));
            string[] warnings = [.. report.Split('\n').Where(l => l.Contains("warning", StringComparison.OrdinalIgnoreCase) || l.Contains("C75", StringComparison.Ordinal))];
            return new AssembledKernel(Number(report, Registers()), Number(report, Stack()), Number(report, SpillStores()) + Number(report, SpillLoads()),
                Number(report, Shared()), tensorCore, instructions, string.Join('\n', warnings));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    // Reads the code sections of the ELF file: from compute capability 7.0 on an instruction is 16 bytes, with its opcode in the lowest 12 bits.
    private static (int Instructions, int TensorCore) CountInstructions(ReadOnlySpan<byte> elf)
    {
        const int noOperation = 0x918, matrixMultiply = 0x23c, headerBytes = 64;
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
                if (opcode == matrixMultiply) tensorCore++;
            }
        }
        return (instructions, tensorCore);
    }

    private static int Number(string report, Regex pattern)
    {
        Match match = pattern.Match(report);
        return match.Success ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
    }

    private static string Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd() + errors.GetAwaiter().GetResult();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: {output}");
    }

    private static string? Find()
    {
        string name = OperatingSystem.IsWindows() ? "ptxas.exe" : "ptxas";
        string? named = Environment.GetEnvironmentVariable("PTXAS");
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        IEnumerable<string> candidates = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(Path.Combine(home, ".cache", "bgemetal", "cuda", "bin")).Select(folder => Path.Combine(folder, name));
        return candidates.Prepend(named ?? "").FirstOrDefault(File.Exists);
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
}
