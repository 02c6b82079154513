using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Reports;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>kernels bench</c>: time, GB/s, TFLOP/s and the share of the roofline that is measured in the same run.</summary>
internal static class KernelBenchCommand
{
    public static Command Create(Terminal terminal)
    {
        Argument<string[]> filter = new("FILTER") { Description = "Only cases with all of these words in stem, name, pass, type or shape", Arity = ArgumentArity.ZeroOrMore };
        ComputeOptionSet compute = new();
        CliOption<double> seconds = Opt.Number("--seconds", "Seconds of measuring a case", 0.3, 0, 60);
        CliOption<double> budget = Opt.Number("--budget", "Seconds for everything on a GPU: cases get less, and the last ones are left out, where it does not suffice; 0 for no limit", 0, 0, 86400);
        CliOption<string[]> names = Opt.Texts("--op", "NAME", "Only operations of exactly these names");
        CliOption<string[]> shapes = Opt.Texts("--shape", "SIZES", "On a GPU: these shapes instead of the table's, for example 'B=64 L=256 H=12 Dh=64'");
        CliOption<bool> each = Opt.Flag("--each-kernel", "On Hopper: time products and attention by each kernel that can compute them, besides the chosen one");
        CliOption<string?> output = Opt.Text("--output", "FILE.csv", "Add the results to this file");
        CliOption<string?> plot = Opt.Text("--plot", "FILE.png", "Draw the roofline from the output file");
        Command command = new("bench", "Time the kernels of the CPU or of a GPU against the roofline of the same run") { filter, seconds, budget, names, shapes, each, output, plot };
        compute.AddTo(command);
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(plot) is not null && parsed.GetValue(output) is null) throw new UsageException("--plot draws the file that --output names: give both");
            ComputeOptions options = compute.Read(parsed, terminal);
            Choice choice = new(string.Join(' ', parsed.GetValue(filter) ?? []), parsed.GetValue(names)!, Shapes(parsed.GetValue(shapes)!), parsed.GetValue(seconds), parsed.GetValue(budget), parsed.GetValue(each));
            List<BenchResult> results = [];
            try
            {
                foreach (BenchResult result in Run(terminal, options, choice))
                {
                    if (results.Count == 0) terminal.Out.WriteLine($"{"op",-20} {"backend",-10} {"mode",-20} {"dtype",-5} {"shape",-26} {"p20 us",10} {"p50 us",10} {"p80 us",10} {"GB/s",8} {"TFLOP/s",8} {"roofline",8}");
                    results.Add(result);
                    Print(terminal, result);
                    terminal.Cancellation.ThrowIfCancellationRequested();
                }
            }
            catch (DeviceException e)
            {
                throw new BgeMetalException(e.Message, e);
            }
            finally
            {
                // Each result is whole by itself, so an interrupted run keeps what it has.
                if (parsed.GetValue(output) is { } path && results.Count > 0) KernelResults.Append(path, results);
            }
            if (parsed.GetValue(plot) is { } picture) RooflinePlot.Write(parsed.GetValue(output)!, picture);
            return ExitCode.Done;
        });
        return command;
    }

    /// <summary>What to measure and for how long.</summary>
    private sealed record Choice(string Filter, string[] Names, IReadOnlyList<BenchShape> Shapes, double Seconds, double Budget, bool EachKernel)
    {
        public IEnumerable<BenchCase> Cases(bool cuda) => (cuda ? KernelBench.CudaCases(Filter, Shapes) : KernelBench.CpuCases(Filter))
            .Where(item => Names.Length == 0 || Names.Contains(item.Op.Name, StringComparer.OrdinalIgnoreCase));
    }

    private static IReadOnlyList<BenchShape> Shapes(string[] texts)
    {
        try
        {
            return [.. texts.Select(text => new BenchShape(text))];
        }
        catch (FormatException e)
        {
            throw new UsageException($"--shape: {e.Message}");
        }
    }

    private static IEnumerable<BenchResult> Run(Terminal terminal, ComputeOptions options, Choice choice)
    {
        bool cuda = options.Device.StartsWith("cuda", StringComparison.Ordinal) || (options.Device == "auto" && CudaDevice.List().Count > 0);
        IReadOnlyList<BenchCase> cases = [.. choice.Cases(cuda).Where(item => options.DType == "auto" || item.TypeName == options.DType)];
        if (cases.Count == 0) throw new BgeMetalException("nothing to measure", $"no case of the {(cuda ? "GPU" : "CPU")} matches '{string.Join(' ', choice.Names.Append(choice.Filter))}'{(choice.Shapes.Count == 0 ? "" : " with these shapes")}{(options.DType == "auto" ? "" : $" in {options.DType}")}");
        terminal.StreamsResults = true;
        if (!cuda) return KernelBench.RunOnCpu(cases, options.Threads > 0 ? options.Threads : Environment.ProcessorCount, choice.Seconds);
        int index = options.Device.Split(':') is [_, var number] ? int.Parse(number, CultureInfo.InvariantCulture) : 0;
        return OnGpu(terminal, index, cases, choice);
    }

    private static IEnumerable<BenchResult> OnGpu(Terminal terminal, int index, IReadOnlyList<BenchCase> cases, Choice choice)
    {
        using CudaDevice device = CudaDevice.Open(index);
        foreach (BenchResult result in KernelBench.RunOnCuda(device, cases, choice.Seconds, choice.Budget, choice.EachKernel, terminal.Say)) yield return result;
    }

    private static void Print(Terminal terminal, BenchResult r)
    {
        string rates = string.Create(CultureInfo.InvariantCulture, $"{r.P20Us,10:0.##} {r.P50Us,10:0.##} {r.P80Us,10:0.##} {r.GigabytesPerSecond,8:0.##} {r.TeraflopsPerSecond,8:0.####}");
        string percent = r.RooflinePercent > 0 ? r.RooflinePercent.ToString("0.0", CultureInfo.InvariantCulture) + " %" : "";
        terminal.Out.WriteLine($"{r.Op,-20} {r.Backend,-10} {r.Mode,-20} {r.DType,-5} {r.Shape,-26} {rates} {percent,8}");
        terminal.Out.Flush();
    }
}
