using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Reports;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Cli.Commands;

/// <summary><c>kernels</c>: the CUDA kernels, looked at without a GPU (list, show, ptx), and all kernels measured (bench), tried on a GPU (probe), repeated there (repeat).</summary>
internal static class KernelsCommand
{
    private const int NamesOffered = 3, InstructionsShown = 12;

    public static Command Create(Terminal terminal) =>
        new("kernels", "List, show, time and try the kernels") { KernelListCommand.Create(terminal), Show(terminal), Ptx(terminal), KernelBenchCommand.Create(terminal), KernelProbeCommand.Create(terminal), KernelRepeatCommand.Create(terminal) };

    private static Command Ptx(Terminal terminal)
    {
        Argument<string> name = Name();
        CliOption<string> architecture = Architecture();
        Command command = new("ptx", "Print the PTX of a kernel, exactly as it is loaded") { name, architecture };
        command.SetAction(parsed =>
        {
            terminal.Out.Write(KernelReport.Compile(Find(parsed.GetRequiredValue(name), parsed.GetValue(architecture)!), parsed.GetValue(architecture)!));
            return ExitCode.Done;
        });
        return command;
    }

    private static Command Show(Terminal terminal)
    {
        Argument<string> name = Name();
        CliOption<string> architecture = Architecture();
        CliOption<string> format = Opt.Choice("--format", "Lines to read, or JSON", "text", ["text", "json"]);
        Command command = new("show", "Show what a kernel costs: registers, shared memory, spills, instructions (with NVIDIA's ptxas and cuobjdump), occupancy, formulas") { name, architecture, format };
        command.SetAction(parsed =>
        {
            KernelDescriptor kernel = Find(parsed.GetRequiredValue(name), parsed.GetValue(architecture)!);
            KernelReport report;
            try
            {
                report = KernelReport.Create(kernel, parsed.GetValue(architecture)!);
            }
            catch (InvalidOperationException e)
            {
                throw new BgeMetalException($"cannot assemble {kernel.Name}", e.Message, innerException: e);
            }
            List<(string Name, object? Value)> facts = Facts(report);
            if (parsed.GetValue(format) == "json") WriteJson(terminal, json => WriteFacts(json, facts, report));
            else WriteText(terminal, facts, report);
            return ExitCode.Done;
        });
        return command;
    }

    private static Argument<string> Name() => new("NAME") { Description = "A kernel's name, as 'kernels list' prints it" };

    /// <summary>The option that says which GPU.</summary>
    public static CliOption<string> Architecture() => Opt.Choice("--arch", "The GPU's architecture", "sm_90", [.. MultiprocessorLimits.Architectures]);

    private static KernelDescriptor Find(string name, string architecture)
    {
        KernelDescriptor kernel = Find(name);
        return kernel.RunsOn(architecture) ? kernel : throw new BgeMetalException($"--arch {architecture}", $"{kernel.Name} is for {kernel.Architecture} only");
    }

    private static KernelDescriptor Find(string name)
    {
        if (KernelRegistry.All.FirstOrDefault(k => k.Name.Equals(name, StringComparison.OrdinalIgnoreCase)) is { } found) return found;
        string probe = name[..Math.Min(name.Length, 64)].ToUpperInvariant();
        int words = probe.Split('.').Length;
        // Names that contain the text come first; among them, and among the others, those whose first words are most like it.
        IEnumerable<string> nearest = KernelRegistry.All.Select(k => k.Name)
            .OrderBy(k => k.Contains(probe, StringComparison.OrdinalIgnoreCase) ? 0 : 1)
            .ThenBy(k => ArgumentReader.EditDistance(probe, string.Join('.', k.ToUpperInvariant().Split('.').Take(words)))).Take(NamesOffered);
        throw new BgeMetalException($"no kernel '{name}'", $"the nearest are {string.Join(", ", nearest)} (see bgemetal kernels list)");
    }

    private static List<(string, object?)> Facts(KernelReport report)
    {
        KernelDescriptor kernel = report.Kernel;
        AssembledKernel? assembled = report.Assembled;
        Occupancy? occupancy = report.Occupancy;
        return
        [
            ("name", kernel.Name),
            ("stem", kernel.Stem),
            ("direction", Lower(kernel.Direction)),
            ("dtype", BenchCase.NameOf(kernel.DType)),
            ("tensor_cores", kernel.TensorCores),
            ("architecture", report.Architecture),
            ("threads", kernel.Threads),
            ("registers", assembled?.Registers),
            ("shared_bytes", report.SharedBytes),
            ("spill_bytes", assembled?.SpillBytes),
            ("stack_bytes", assembled?.StackBytes),
            ("instructions", assembled?.Instructions),
            ("tensor_core_instructions", assembled?.TensorCoreInstructions),
            ("blocks_per_multiprocessor", occupancy?.Blocks),
            ("warps_per_multiprocessor", occupancy?.Warps),
            ("occupancy_percent", occupancy is { } known ? Math.Round(known.Percent, 1) : null),
            ("occupancy_limit", occupancy?.Limit),
            ("ptx_lines", report.Ptx.Count(c => c == '\n')),
        ];
    }

    private static void WriteText(Terminal terminal, List<(string Name, object? Value)> facts, KernelReport report)
    {
        int width = facts.Max(fact => fact.Name.Length);
        void Line(string name, string value) => terminal.Out.WriteLine($"{name.Replace('_', ' ').PadRight(width)}  {value}");
        foreach ((string name, object? value) in facts) Line(name, Text(value));
        if (report.Assembled is null) terminal.Say("no ptxas on this machine: registers, spills and instructions are not known (set PTXAS, or put a CUDA toolkit's bin on the PATH)");
        if (report.Assembled is { InstructionMix.Count: > 0 } assembled)
            Line("instruction mix", string.Join(", ", assembled.InstructionMix.Take(InstructionsShown).Select(pair => $"{pair.Value} {pair.Key}")));
        foreach (BenchOp op in BenchTable.Of(report.Kernel.Stem, report.Kernel.Direction)) Line($"formula of {op.Name}", $"{op.Flops} FLOP, {op.Bytes} bytes");
    }

    private static void WriteFacts(Utf8JsonWriter json, List<(string Name, object? Value)> facts, KernelReport report)
    {
        json.WriteStartObject();
        foreach ((string name, object? value) in facts)
        {
            json.WritePropertyName(name);
            JsonSerializer.Serialize(json, value);
        }
        json.WriteStartObject("instruction_mix"u8);
        foreach ((string name, int count) in report.Assembled?.InstructionMix ?? []) json.WriteNumber(name, count);
        json.WriteEndObject();
        json.WriteStartArray("formulas"u8);
        foreach (BenchOp op in BenchTable.Of(report.Kernel.Stem, report.Kernel.Direction))
        {
            json.WriteStartObject();
            json.WriteString("op"u8, op.Name);
            json.WriteString("flops"u8, op.Flops);
            json.WriteString("bytes"u8, op.Bytes);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>Writes one JSON value to the results.</summary>
    public static void WriteJson(Terminal terminal, Action<Utf8JsonWriter> content)
    {
        terminal.FlushResults();
        using (Utf8JsonWriter json = new(terminal.Results, new JsonWriterOptions { Indented = true, NewLine = "\n" })) content(json);
        terminal.Results.Write("\n"u8);
    }

    /// <summary>A direction as lists show it.</summary>
    public static string Lower(KernelDirection direction) => direction.ToString().ToLowerInvariant();

    private static string Text(object? value) => value switch
    {
        null => "-",
        bool flag => flag ? "yes" : "no",
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };
}
