using System.CommandLine;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data.Training;

namespace BgeMetal.Cli;

/// <summary>The options of commands that read rows and write rows.</summary>
internal static class InputOption
{
    public static CliOption<string> Input(string description) => Opt.RequiredText("--input", "FILE", description + " (.txt, .jsonl, .gz of either; - is standard input)", "input-file", "input-path");

    public static CliOption<string?> Output(string description) => Opt.Text("--output", "FILE", description, "output-file", "output-path");

    /// <summary>How an instruction and a query are joined.</summary>
    public static CliOption<string> QueryFormat() => Opt.TextOr("--query-instruction-format", "FORMAT", "{}{}", "How instruction and query are joined", "query-instruction-format-for-retrieval");

    /// <summary>What stands before each query: an instruction, where there is one, in its format.</summary>
    /// <exception cref="BgeMetalException">The format is wrong, or puts something behind the query.</exception>
    public static string? Formatted(ParseResult parsed, CliOption<string> format, string? instruction) =>
        string.IsNullOrEmpty(instruction) ? instruction : InstructionFormat.Parse(parsed.GetValue(format)!).Before(instruction);

    public static CliOption<bool> SkipInvalid() => Opt.Flag("--skip-invalid", "Count and skip bad lines instead of stopping at the first");

    /// <summary>Refuses a value that several options would contradict.</summary>
    public static UsageException Contradiction(Option a, Option b) => new($"{a.Name} and {b.Name} exclude each other");
}
