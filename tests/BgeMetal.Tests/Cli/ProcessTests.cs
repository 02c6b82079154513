using System.Diagnostics;
using BgeMetal.Cli;

namespace BgeMetal.Tests.Cli;

/// <summary>The program as a process of its own: exit codes, signals, pipes.</summary>
public sealed class ProcessTests : CommandFolder
{
    [Fact]
    public void Wrong_usage_exits_with_2_and_a_failure_with_1()
    {
        (int code, string output, string error) = Run(["pull", "acme/x", "--revison", "v1"]);
        Assert.Equal((2, ""), (code, output));
        Assert.StartsWith("error: unknown option '--revison': did you mean '--revision'?", error, StringComparison.Ordinal);
        (code, output, error) = Run(["pull", "acme/x"], ("HF_HUB_OFFLINE", "1"));
        Assert.Equal((1, ""), (code, output));
        Assert.StartsWith("error: cannot download acme/x: HF_HUB_OFFLINE is set", error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd().Split('\n'));
    }

    [Fact]
    public void The_version_and_the_help_are_results()
    {
        Assert.StartsWith("bgemetal 0.", Run(["--version"]).Output, StringComparison.Ordinal);
        Assert.Contains("pull <REPO>", Run(["--help"]).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_interrupt_ends_with_130()
    {
        SkipWhereInterruptsAreIgnored();
        Assert.SkipWhen(OperatingSystem.IsWindows(), "POSIX signals");
        await using Hub.HubServer server = await Hub.HubServer.StartAsync();
        TaskCompletionSource asked = new();
        server.Intercept = async (context, _) =>
        {
            asked.TrySetResult();
            await Task.Delay(TimeSpan.FromSeconds(60), context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            return true;
        };
        using Process process = Start(["pull", Hub.HubServer.Repository], ("HF_ENDPOINT", server.Endpoint));
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        using (Process kill = Process.Start("kill", ["-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)])) await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        string error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal((130, "interrupted"), (process.ExitCode, error.Trim()));
    }

    [Fact]
    public async Task An_interrupted_embed_leaves_no_file()
    {
        SkipWhereInterruptsAreIgnored();
        Assert.SkipWhen(OperatingSystem.IsWindows(), "POSIX signals");
        using Process process = Start(["embed", "--model", Model, "--input", "-", "--output", In("v.npy")]);
        // More than the first piece, then silence: the command has begun to write and waits for more.
        for (int i = 0; i < 20_000; i++) await process.StandardInput.WriteLineAsync("the cat");
        await process.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
        for (int i = 0; i < 600 && Directory.GetFiles(Folder, ".v.npy*").Length == 0; i++) await Task.Delay(100, TestContext.Current.CancellationToken);
        Assert.Single(Directory.GetFiles(Folder, ".v.npy*"));
        using (Process kill = Process.Start("kill", ["-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)])) await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        process.StandardInput.Close();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(130, process.ExitCode);
        Assert.Empty(Directory.GetFiles(Folder, "*v.npy*"));
    }

    [Fact]
    public async Task A_reader_that_goes_away_ends_the_command_quietly()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "a POSIX shell");
        // Endless input: only the closed pipe can end this.
        using Process process = Process.Start(new ProcessStartInfo("/bin/sh",
            ["-c", "yes 'the cat' 2>/dev/null | (dotnet \"$0\" embed --model \"$1\" --input -; echo code $? >&2) | head -n 1", ProgramPath, Model])
        { RedirectStandardError = true, RedirectStandardOutput = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken);
        Assert.Equal("code 0", (await error).Trim());
        Assert.StartsWith("{\"id\":null,\"embedding\":[", output, StringComparison.Ordinal);
    }

    private static string ProgramPath => typeof(CommandLine).Assembly.Location;

    private static (int Code, string Output, string Error) Run(string[] arguments, params (string Name, string Value)[] environment)
    {
        using Process process = Start(arguments, environment);
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.GetAwaiter().GetResult());
    }

    private static Process Start(string[] arguments, params (string Name, string Value)[] environment)
    {
        ProcessStartInfo start = new("dotnet", [ProgramPath, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["HF_HUB_CACHE"] = Path.Combine(Path.GetTempPath(), "bgemetal-no-cache");
        start.Environment["HF_HUB_OFFLINE"] = "0";
        foreach ((string name, string value) in environment) start.Environment[name] = value;
        return Process.Start(start)!;
    }

    /// <summary>A shell starts background jobs with SIGINT ignored; children inherit that and .NET leaves it so: nothing can be interrupted there.</summary>
    private static void SkipWhereInterruptsAreIgnored()
    {
        const string Status = "/proc/self/status";
        if (!System.IO.File.Exists(Status)) return;
        string line = System.IO.File.ReadLines(Status).First(text => text.StartsWith("SigIgn:", StringComparison.Ordinal));
        ulong ignored = ulong.Parse(line["SigIgn:".Length..].Trim(), System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture);
        Assert.SkipWhen((ignored & 2) != 0, "this process was started with SIGINT ignored, as a shell's background job is");
    }
}
