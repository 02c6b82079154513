using System.Collections.Concurrent;
using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Reports;
using BgeMetal.Kernels.Runtime;
using Spectre.Console;
using static BgeMetal.Kernels.Runtime.CudaKernelAttribute;

namespace BgeMetal.Cli.Commands;

/// <summary><c>kernels list</c>: the CUDA kernels, and with <c>--costs</c> what the assembler makes of each.</summary>
internal static class KernelListCommand
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> filter = new("FILTER") { Description = "Only kernels whose names contain this", DefaultValueFactory = _ => "" };
        CliOption<string> format = Opt.Choice("--format", "A table to read, or JSON", "table", ["table", "json"]);
        CliOption<bool> costs = Opt.Flag("--costs", "Assemble each: registers, spills, stack, shared memory, instructions, resident blocks (needs ptxas)");
        CliOption<string> architecture = Opt.Choice("--arch", $"The GPU's architecture; {Hopper}: Hopper with the kernels that are its own", "sm_90", [.. MultiprocessorLimits.Architectures, Hopper]);
        Command command = new("list", "List the CUDA kernels") { filter, format, costs, architecture };
        command.SetAction(parsed =>
        {
            bool hopper = parsed.GetValue(architecture) == Hopper;
            ILookup<bool, KernelDescriptor> kernels = KernelRegistry.All.Where(k => k.Name.Contains(parsed.GetValue(filter)!, StringComparison.OrdinalIgnoreCase))
                .ToLookup(k => k.Architecture is null || hopper);
            KernelDescriptor[] listed = [.. kernels[true]];
            IReadOnlyDictionary<KernelDescriptor, KernelReport>? reports =
                parsed.GetValue(costs) ? Assemble(listed, hopper ? "sm_90" : parsed.GetValue(architecture)!, terminal.Cancellation) : null;
            if (parsed.GetValue(format) == "json") KernelsCommand.WriteJson(terminal, json => Write(json, listed, reports));
            else Write(terminal, listed, reports, kernels[false].Count());
            return ExitCode.Done;
        });
        return command;
    }

    private static ConcurrentDictionary<KernelDescriptor, KernelReport> Assemble(KernelDescriptor[] kernels, string architecture, CancellationToken cancellation)
    {
        if (CudaToolkit.Find("ptxas") is null) throw new BgeMetalException("--costs", "there is no ptxas on this machine (set PTXAS, or put a CUDA toolkit's bin on the PATH)");
        ConcurrentDictionary<KernelDescriptor, KernelReport> reports = new();
        try
        {
            Parallel.ForEach(kernels, new ParallelOptions { CancellationToken = cancellation }, kernel => reports[kernel] = KernelReport.Create(kernel, architecture));
        }
        catch (AggregateException e) when (e.InnerException is InvalidOperationException inner)
        {
            throw new BgeMetalException("cannot assemble a kernel", inner.Message, innerException: e);
        }
        return reports;
    }

    private static void Write(Terminal terminal, KernelDescriptor[] kernels, IReadOnlyDictionary<KernelDescriptor, KernelReport>? reports, int notListed)
    {
        Table table = new() { Border = TableBorder.Simple };
        string[] columns = reports is null ? ["name", "stem", "direction", "dtype", "tensor cores", "threads", "shared bytes"]
            : ["name", "threads", "registers", "spills", "stack", "shared bytes", "HMMA", "instructions", "blocks", "occupancy", "limit"];
        foreach (string column in columns) table.AddColumn(column);
        foreach (KernelDescriptor k in kernels)
        {
            if (reports?[k] is not { Assembled: { } a } report)
                table.AddRow(k.Name, k.Stem, KernelsCommand.Lower(k.Direction), BenchCase.NameOf(k.DType), k.TensorCores ? "yes" : "", Text(k.Threads), Text(k.SharedBytes));
            else
                table.AddRow(k.Name, Text(k.Threads), Text(a.Registers), Text(a.SpillBytes), Text(a.StackBytes), Text(report.SharedBytes), Text(a.TensorCoreInstructions),
                    Text(a.Instructions), Text(report.Occupancy?.Blocks ?? 0), Text(Math.Round(report.Occupancy?.Percent ?? 0)) + " %", report.Occupancy?.Limit ?? "");
        }
        terminal.Canvas(results: true).Write(table);
        terminal.Say($"{kernels.Length} kernels, {kernels.Count(k => k.TensorCores)} on tensor cores"
            + (reports is null ? "" : $", {reports.Values.Count(r => r.Assembled is { SpillBytes: > 0 } or { StackBytes: > 0 })} with spills or a stack")
            + (notListed == 0 ? "" : $"; {notListed} more are Hopper's own (--arch {Hopper})"));
    }

    private static void Write(Utf8JsonWriter json, KernelDescriptor[] kernels, IReadOnlyDictionary<KernelDescriptor, KernelReport>? reports)
    {
        json.WriteStartArray();
        foreach (KernelDescriptor kernel in kernels)
        {
            json.WriteStartObject();
            json.WriteString("name"u8, kernel.Name);
            json.WriteString("stem"u8, kernel.Stem);
            json.WriteString("direction"u8, KernelsCommand.Lower(kernel.Direction));
            json.WriteString("dtype"u8, BenchCase.NameOf(kernel.DType));
            json.WriteBoolean("tensor_cores"u8, kernel.TensorCores);
            json.WriteNumber("threads"u8, kernel.Threads);
            json.WriteNumber("shared_bytes"u8, reports?[kernel].SharedBytes ?? kernel.SharedBytes);
            if (reports?[kernel] is { Assembled: { } assembled } report)
            {
                json.WriteString("architecture"u8, report.Architecture);
                json.WriteNumber("registers"u8, assembled.Registers);
                json.WriteNumber("spill_bytes"u8, assembled.SpillBytes);
                json.WriteNumber("stack_bytes"u8, assembled.StackBytes);
                json.WriteNumber("tensor_core_instructions"u8, assembled.TensorCoreInstructions);
                json.WriteNumber("instructions"u8, assembled.Instructions);
                json.WriteNumber("blocks_per_multiprocessor"u8, report.Occupancy?.Blocks ?? 0);
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);
}
