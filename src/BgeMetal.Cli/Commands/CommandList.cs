using System.CommandLine;
using BgeMetal.Cli.Output;

namespace BgeMetal.Cli.Commands;

/// <summary>The commands in the order of the help.</summary>
internal static class CommandList
{
    public static IEnumerable<Command> Create(Terminal terminal) =>
    [
        PullCommand.Create(terminal),
    ];
}
