using System.CommandLine;
using BgeMetal.Cli.Output;

namespace BgeMetal.Cli.Commands;

/// <summary>The commands in the order of the help.</summary>
internal static class CommandList
{
    public static IEnumerable<Command> Create(Terminal terminal) =>
    [
        QuickstartCommand.Create(terminal),
        InitCommand.Create(terminal),
        PullCommand.Create(terminal),
        InfoCommand.Create(terminal),
        TokenizeCommand.Create(terminal),
        EmbedCommand.Create(terminal),
        SimilarityCommand.Create(terminal),
        RerankCommand.Create(terminal),
        IndexCommand.Create(terminal),
        SearchCommand.Create(terminal),
        EvalCommand.Create(terminal),
        MineCommand.Create(terminal),
        PretrainCommand.Create(terminal),
        FinetuneCommand.Create(terminal),
        FinetuneRerankerCommand.Create(terminal),
        FinetuneLlmEmbedderCommand.Create(terminal),
        ScoreCommand.Create(terminal),
        KernelsCommand.Create(terminal),
    ];
}
