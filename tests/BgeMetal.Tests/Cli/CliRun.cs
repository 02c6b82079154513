using BgeMetal.Cli;
using BgeMetal.Cli.Output;

namespace BgeMetal.Tests.Cli;

/// <summary>One command line, run in this process, with what it wrote.</summary>
internal sealed record CliRun(int Code, string Output, string Error)
{
    /// <summary>The last line on the error stream.</summary>
    public string LastError => Error.TrimEnd('\n', '\r').Split('\n')[^1].TrimEnd('\r');

    public static CliRun Of(params string[] arguments) => Of(CancellationToken.None, arguments);

    public static CliRun Of(CancellationToken cancellation, params string[] arguments)
    {
        using MemoryStream output = new();
        using StringWriter error = new();
        int code;
        using (Terminal terminal = new(output, error, resultsAreSeen: false, errorsAreSeen: false, cancellation)) code = CommandLine.Run(arguments, terminal);
        return new CliRun(code, System.Text.Encoding.UTF8.GetString(output.ToArray()), error.ToString());
    }

    /// <summary>Runs a command line that must succeed.</summary>
    public static CliRun Succeeds(params string[] arguments)
    {
        CliRun run = Of(arguments);
        Assert.True(run.Code == 0, $"exit {run.Code}: {run.Error}");
        return run;
    }

    /// <summary>Runs a command line that must fail with exactly one error line, which has all of <paramref name="words"/>, and no stack trace.</summary>
    public static CliRun Fails(int code, string[] words, params string[] arguments)
    {
        CliRun run = Of(arguments);
        Assert.True(run.Code == code, $"exit {run.Code}, expected {code}: {run.Error}");
        string line = Assert.Single(run.Error.Split('\n'), l => l.StartsWith("error: ", StringComparison.Ordinal));
        foreach (string word in words) Assert.Contains(word, line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", run.Error, StringComparison.Ordinal);
        return run;
    }
}
