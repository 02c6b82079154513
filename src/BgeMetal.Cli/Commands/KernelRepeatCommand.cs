using System.CommandLine;
using System.Globalization;
using System.Text;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Files;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Cli.Commands;

/// <summary><c>kernels repeat</c>: every operation again and again on a GPU, the same bits each time.</summary>
internal static class KernelRepeatCommand
{
    public static Command Create(Terminal terminal)
    {
        Argument<string[]> filter = new("FILTER") { Description = "Only operations with all of these words in stem, name, pass or type", Arity = ArgumentArity.ZeroOrMore };
        ComputeOptionSet compute = new();
        CliOption<int> repeats = Opt.Int("--repeats", "Runs that are compared with the first", 100, 1, 1_000_000);
        CliOption<bool> small = Opt.Flag("--small", "Only small sizes, not those that fill the device");
        CliOption<string?> output = Opt.Text("--output", "FILE.csv", "Write a line for each operation");
        Command command = new("repeat", "Run every operation of a GPU many times and compare all of its memory bit for bit") { filter, repeats, small, output };
        compute.AddTo(command);
        command.SetAction(parsed =>
        {
            string device = compute.Read(parsed, terminal).Device;
            IReadOnlyList<BenchCase> cases = RepeatCheck.Cases(string.Join(' ', parsed.GetValue(filter) ?? []), large: !parsed.GetValue(small));
            if (cases.Count == 0) throw new BgeMetalException("nothing to repeat", "no operation matches");
            List<RepeatResult> results = [];
            terminal.StreamsResults = true;
            try
            {
                using CudaDevice gpu = CudaDevice.Open(device.Split(':') is [_, var number] ? int.Parse(number, CultureInfo.InvariantCulture) : 0);
                foreach (RepeatResult result in RepeatCheck.Run(gpu, cases, parsed.GetValue(repeats)))
                {
                    results.Add(result);
                    if (!result.IsGood || result.LeftOut.Length > 0) Say(terminal, result);
                    terminal.Cancellation.ThrowIfCancellationRequested();
                }
            }
            catch (DeviceException e)
            {
                throw new BgeMetalException(e.Message, e);
            }
            finally
            {
                if (parsed.GetValue(output) is { } path && results.Count > 0) Write(path, results);
            }
            int differing = results.Count(result => result.Differing > 0), failed = results.Count(result => result.Error.Length > 0), leftOut = results.Count(result => result.LeftOut.Length > 0);
            terminal.Out.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{results.Count} cases, {parsed.GetValue(repeats)} repeats each: {results.Count - differing - failed - leftOut} the same bits, {differing} differ, {failed} failed, {leftOut} left out"));
            return differing == 0 && failed == 0 ? ExitCode.Done : ExitCode.Failed;
        });
        return command;
    }

    private static void Say(Terminal terminal, RepeatResult result)
    {
        terminal.Out.WriteLine(result.LeftOut.Length > 0 ? $"{result.Case} is left out: {result.LeftOut}" : result.Error.Length > 0 ? $"{result.Case}: {result.Error}" : $"{result.Case}: {result.Differing} of {result.Repeats} runs differ, first {result.First}");
        terminal.Out.Flush();
    }

    private static void Write(string path, List<RepeatResult> results)
    {
        StringBuilder text = new("op,mode,dtype,shape,repeats,differing,first,error,left_out\n");
        foreach (RepeatResult r in results)
            text.Append(CultureInfo.InvariantCulture, $"{r.Case.Op.Name},{r.Case.Op.Mode},{r.Case.TypeName},{r.Case.Shape},{r.Repeats},{r.Differing},\"{r.First}\",\"{r.Error.Replace('"', '\'')}\",\"{r.LeftOut}\"\n");
        AtomicFile.WriteAllText(path, text.ToString());
    }
}
