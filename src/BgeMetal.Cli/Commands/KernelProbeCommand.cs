using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Reports;
using Spectre.Console;

namespace BgeMetal.Cli.Commands;

/// <summary><c>kernels probe</c>: the first minutes on a GPU; what fails is listed, and the rest goes on.</summary>
internal static class KernelProbeCommand
{
    private const int KernelsShown = 12;

    public static Command Create(Terminal terminal)
    {
        ComputeOptionSet compute = new();
        CliOption<string?> output = Opt.Text("--output", "DIR", "Write NAME.json and NAME_kernels.csv there");
        CliOption<string> name = Opt.TextOr("--name", "NAME", "probe", "The files' first name");
        CliOption<string?> costs = Opt.Text("--costs", "FILE.csv", "The table of assembled kernels (tests/BgeMetal.Kernels.Tests/Cuda/ptxas.csv) to compare registers with");
        CliOption<bool> loads = Opt.Flag("--loads-only", "Load the kernels and nothing else");
        CliOption<string?> before = Opt.Text("--before", "FILE.json", "An earlier probe's results, to show beside the numbers that both have");
        Command command = new("probe", "Find out in minutes whether a GPU loads every kernel, and what launches, graphs and copies cost there") { output, name, costs, loads, before };
        compute.AddTo(command);
        command.SetAction(parsed =>
        {
            string device = compute.Read(parsed, terminal).Device;
            ProbeReport? earlier = parsed.GetValue(before) is { } path ? ProbeResults.Read(path) : null;
            ProbeSettings settings = new() { LoadsOnly = parsed.GetValue(loads), Costs = Costs(parsed.GetValue(costs)) };
            ProbeReport report;
            try
            {
                report = DeviceProbe.Run(device.Split(':') is [_, var number] ? int.Parse(number, CultureInfo.InvariantCulture) : 0, settings, terminal.Say);
            }
            catch (DeviceException e)
            {
                throw new BgeMetalException(e.Message, e);
            }
            if (parsed.GetValue(output) is { } folder) ProbeResults.Write(folder, parsed.GetValue(name)!, report);
            Show(terminal, report, earlier);
            return report.Failures.Count == 0 ? ExitCode.Done : ExitCode.Failed;
        });
        return command;
    }

    private static AssembledTable Costs(string? path)
    {
        if (path is null) return new AssembledTable();
        try
        {
            return new AssembledTable(File.ReadLines(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            throw new BgeMetalException("cannot read the table of assembled kernels", e.Message, path, innerException: e);
        }
    }

    private static void Show(Terminal terminal, ProbeReport report, ProbeReport? earlier)
    {
        terminal.Out.WriteLine($"{report.Device}, {report.Architecture}, driver {report.Driver}");
        Table facts = new() { Border = TableBorder.Simple };
        foreach (string column in (string[])(earlier is null ? ["", "", "", ""] : ["", "", "", "", "before"])) facts.AddColumn(column);
        facts.ShowHeaders = earlier is not null;
        foreach (ProbeFact fact in report.Facts)
        {
            List<string> cells = [fact.Group, fact.Name, Text(fact.Value), fact.Unit];
            if (earlier is not null) cells.Add(earlier.Facts.FirstOrDefault(old => (old.Group, old.Name) == (fact.Group, fact.Name)) is { } old ? Text(old.Value) : "");
            facts.AddRow([.. cells.Select(Markup.Escape)]);
        }
        terminal.Canvas(results: true).Write(facts);
        // The kernels that deserve a look: more registers than expected, local memory, or the longest in the driver.
        KernelLoad[] shown = [.. report.Kernels.Where(k => k.Error.Length == 0)
            .OrderByDescending(k => k.LocalBytes).ThenByDescending(k => k.Registers - (k.ExpectedRegisters ?? k.Registers)).ThenByDescending(k => k.DriverMs).Take(KernelsShown)];
        if (shown.Length > 0)
        {
            Table kernels = new() { Border = TableBorder.Simple };
            foreach (string column in (string[])["kernel", "driver ms", "registers", "in the table", "local bytes", "shared bytes", "blocks"]) kernels.AddColumn(column);
            foreach (KernelLoad k in shown)
                kernels.AddRow(k.Kernel, Text(k.DriverMs), Text(k.Registers), k.ExpectedRegisters is { } registers ? Text(registers) : "-", Text(k.LocalBytes), Text(k.SharedBytes), Text(k.BlocksPerMultiprocessor));
            terminal.Canvas(results: true).Write(kernels);
        }
        foreach (ProbeFailure failure in report.Failures) terminal.Out.WriteLine($"FAILED {failure.Part}: {failure.Message}");
        terminal.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{report.Failures.Count} failures"));
    }

    private static string Text(double value) => value == Math.Floor(value) && Math.Abs(value) < 1e15 ? value.ToString("0", CultureInfo.InvariantCulture) : value.ToString("g5", CultureInfo.InvariantCulture);
}
