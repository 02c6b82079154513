using System.Globalization;
using Spectre.Console;

namespace BgeMetal.Cli.Output;

/// <summary>
/// Where a command speaks: results to <see cref="Out"/>, everything else to the error stream, where a person gets a progress bar and a log gets plain
/// lines. Carries the interruption as well, so that a command needs this one thing from outside.
/// </summary>
internal sealed class Terminal : IDisposable
{
    private readonly Lock _lock = new();
    private readonly TextWriter _error;

    /// <summary>A terminal over the given streams.</summary>
    /// <param name="results">Takes the results; flushed by Dispose and by <see cref="FlushResults"/>.</param>
    /// <param name="error">Takes progress, warnings and errors.</param>
    /// <param name="resultsAreSeen">True when a person looks at the results.</param>
    /// <param name="errorsAreSeen">True when a person looks at the error stream.</param>
    /// <param name="cancellationToken">The interruption (Ctrl+C).</param>
    public Terminal(Stream results, TextWriter error, bool resultsAreSeen, bool errorsAreSeen, CancellationToken cancellationToken)
    {
        Results = results;
        Out = new StreamWriter(results, new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false), 1 << 16, leaveOpen: true) { NewLine = "\n" };
        _error = error;
        (ResultsAreSeen, ErrorsAreSeen, Cancellation) = (resultsAreSeen, errorsAreSeen, cancellationToken);
    }

    /// <summary>Results as text, UTF-8 whatever the locale. Flush before writing to <see cref="Results"/>.</summary>
    public StreamWriter Out { get; }

    /// <summary>Results as bytes.</summary>
    public Stream Results { get; }

    /// <summary>True when a person looks at the results.</summary>
    public bool ResultsAreSeen { get; }

    /// <summary>True when a person looks at the error stream.</summary>
    public bool ErrorsAreSeen { get; }

    /// <summary>The interruption.</summary>
    public CancellationToken Cancellation { get; }

    /// <summary>No progress and no notes; warnings and errors remain.</summary>
    public bool Quiet { get; set; }

    /// <summary>Errors come with the stack trace.</summary>
    public bool Verbose { get; set; }

    /// <summary>True while rows go to <see cref="Out"/> as they are made: before a person's eyes they are the progress, and a bar would wipe them away.</summary>
    public bool StreamsResults { get; set; }

    /// <summary>The terminal of this process.</summary>
    public static Terminal OfProcess(CancellationToken cancellationToken) =>
        new(ResultStream.OfProcess(), Console.Error, !Console.IsOutputRedirected, !Console.IsErrorRedirected, cancellationToken);

    /// <summary>One line about what happens; not with --quiet.</summary>
    public void Say(string line)
    {
        if (!Quiet) WriteLine(line);
    }

    /// <summary>One line about something that is not as asked.</summary>
    public void Warn(string line) => WriteLine("warning: " + line);

    /// <summary>The line a failed command ends with.</summary>
    public void Fail(string line) => WriteLine("error: " + OneLine(line));

    /// <summary>Several lines, as they are.</summary>
    public void WriteLine(string text)
    {
        lock (_lock) _error.WriteLine(text);
    }

    /// <summary>Watches long work.</summary>
    /// <param name="what">What is done: "embedding".</param>
    /// <param name="unit">What is counted: "texts".</param>
    /// <param name="total">How many there are; null when nobody knows.</param>
    public Progress Watch(string what, string unit, long? total) => new(this, what, unit, total, _error);

    /// <summary>A console that draws tables for the results (true) or the error stream (false).</summary>
    public IAnsiConsole Canvas(bool results)
    {
        bool seen = results ? ResultsAreSeen : ErrorsAreSeen;
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = seen ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = seen ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = seen ? InteractionSupport.Detect : InteractionSupport.No,
            Out = new AnsiConsoleOutput(results ? Out : _error),
        });
        // A log has no width; a table in it should not be broken at 80 columns.
        if (!seen) console.Profile.Width = 160;
        return console;
    }

    /// <summary>Sends what was written so far.</summary>
    public void FlushResults()
    {
        Out.Flush();
        Results.Flush();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Out.Dispose();
        }
        catch (OutputClosedException)
        {
            // Nobody reads any more; there is nothing left to say.
        }
    }

    /// <summary>A count as people read it, the same under every culture.</summary>
    public static string Count(double value) => value.ToString(value < 10 && value != Math.Floor(value) ? "0.0" : "N0", CultureInfo.InvariantCulture);

    private static string OneLine(string text) => text.ReplaceLineEndings(" ");
}
