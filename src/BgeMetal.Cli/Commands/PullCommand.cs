using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Hub;

namespace BgeMetal.Cli.Commands;

/// <summary><c>pull</c>: fetches a model into the cache and prints its folder.</summary>
internal static class PullCommand
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> repository = new("REPO") { Description = "A hub id, such as BAAI/bge-small-en-v1.5" };
        CliOption<string> revision = ModelOption.Revision();
        CliOption<string?> cache = ModelOption.CacheDirectory();
        Command command = new("pull", "Fetch a model into the Hugging Face cache; prints the folder it is in") { repository, revision, cache };
        command.SetAction(parsed =>
        {
            string model = parsed.GetRequiredValue(repository);
            using ModelHub hub = new(ModelOption.Options(parsed.GetValue(cache)));
            string folder = ModelOption.Download(terminal, model, progress => hub.DownloadAsync(model, parsed.GetValue(revision)!, progress, terminal.Cancellation));
            terminal.Out.WriteLine(folder);
            return ExitCode.Done;
        });
        return command;
    }
}
