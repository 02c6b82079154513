using System.CommandLine;
using BgeMetal.Cli.Parsing;

namespace BgeMetal.Cli;

/// <summary>The options of commands that read rows and write rows.</summary>
internal static class InputOption
{
    public static CliOption<string> Input(string description) => Opt.RequiredText("--input", "FILE", description + " (.txt, .jsonl, .gz of either; - is standard input)", "input-file", "input-path");

    public static CliOption<string?> Output(string description) => Opt.Text("--output", "FILE", description, "output-file", "output-path");

    public static CliOption<bool> SkipInvalid() => Opt.Flag("--skip-invalid", "Count and skip bad lines instead of stopping at the first");

    /// <summary>Refuses a value that several options would contradict.</summary>
    public static UsageException Contradiction(Option a, Option b) => new($"{a.Name} and {b.Name} exclude each other");
}
