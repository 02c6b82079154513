using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Reflection;
using BgeMetal.Cli.Commands;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;

namespace BgeMetal.Cli;

/// <summary>The whole program as a function of its arguments and streams: parses, runs one command, and turns every failure into one line and an exit code.</summary>
internal static class CommandLine
{
    /// <summary>Runs one command line; never throws.</summary>
    public static int Run(IReadOnlyList<string> arguments, Terminal terminal)
    {
        try
        {
            int code = Invoke(arguments, terminal);
            terminal.FlushResults();
            return code;
        }
        catch (UsageException e)
        {
            terminal.Fail(e.Message);
            return ExitCode.WrongUsage;
        }
        catch (OutputClosedException)
        {
            return ExitCode.Done;
        }
        catch (Exception e) when (terminal.Cancellation.IsCancellationRequested && IsCancellation(e))
        {
            terminal.WriteLine("interrupted");
            return ExitCode.Interrupted;
        }
        catch (Exception e)
        {
            terminal.Fail(Describe(e));
            if (terminal.Verbose) terminal.WriteLine(e.ToString());
            return ExitCode.Failed;
        }
    }

    private static int Invoke(IReadOnlyList<string> arguments, Terminal terminal)
    {
        Option<bool> quiet = Opt.Flag("--quiet", "No progress and no notes; warnings and errors only", "disable-tqdm");
        Option<bool> verbose = Opt.Flag("--verbose", "Show the stack trace of an error");
        Command root = CreateRoot(terminal, quiet, verbose);
        if (arguments.Count == 0)
        {
            using StringWriter help = new();
            root.Parse(["--help"]).Invoke(new InvocationConfiguration { Output = help });
            terminal.WriteLine(help.ToString().TrimEnd());
            throw new UsageException("no command was given");
        }
        IReadOnlyList<string> canonical = ArgumentReader.Read(root, arguments, terminal.Warn);
        ParseResult parsed = root.Parse(canonical, new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null });
        if (parsed.Action is ParseErrorAction || (parsed.Errors.Count > 0 && parsed.Action is not HelpAction)) throw new UsageException(parsed.Errors[0].Message);
        terminal.Quiet = parsed.GetValue(quiet);
        terminal.StreamsResults = false;
        terminal.Verbose = parsed.GetValue(verbose);
        return parsed.Invoke(new InvocationConfiguration { Output = terminal.Out, Error = TextWriter.Null, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    private static Command CreateRoot(Terminal terminal, Option<bool> quiet, Option<bool> verbose)
    {
        Command root = new("bgemetal", "BGE embeddings: embed, rerank, search and evaluate with BERT and XLM-RoBERTa checkpoints.");
        quiet.Recursive = verbose.Recursive = true;
        root.Add(quiet);
        root.Add(verbose);
        root.Add(new HelpOption("--help", "-h", "-?") { Recursive = true });
        Option<bool> version = new("--version") { Description = "Show the version", Action = new VersionAction(terminal) };
        root.Add(version);
        foreach (Command command in CommandList.Create(terminal)) root.Add(command);
        return root;
    }

    private static bool IsCancellation(Exception e) => e is OperationCanceledException || e.InnerException is OperationCanceledException
        || (e is AggregateException all && all.Flatten().InnerExceptions.All(inner => inner is OperationCanceledException));

    private static string Describe(Exception e) => e switch
    {
        BgeMetalException => e.Message,
        AggregateException { InnerExceptions: [BgeMetalException only] } => only.Message,
        OutOfMemoryException => "not enough memory: " + e.Message,
        IOException or UnauthorizedAccessException => e.Message,
        _ => $"unexpected failure: {e.GetType().Name}: {e.Message} (run with --verbose to see where)",
    };

    private sealed class VersionAction(Terminal terminal) : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            string version = typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
            terminal.Out.WriteLine("bgemetal " + version.Split('+')[0]);
            return ExitCode.Done;
        }
    }
}
