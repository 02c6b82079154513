using System.Diagnostics;
using System.Text.Json;
using BgeMetal.Cli.Parsing;
using BgeMetal.Files;
using BgeMetal.Kernels;

namespace BgeMetal.Cli.Output;

/// <summary>What a command did and what it cost: the content of <c>--stats FILE</c>.</summary>
internal sealed record RunStatistics
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true };

    /// <summary>Texts (or pairs) that went through the model.</summary>
    public long Texts { get; init; }

    /// <summary>Their tokens, special tokens included, padding not.</summary>
    public long Tokens { get; init; }

    /// <summary>Seconds of work: reading, tokenising, computing and writing, without loading the model.</summary>
    public double Seconds { get; init; }

    /// <summary>Tokens divided by seconds.</summary>
    public double TokensPerSecond => Seconds > 0 ? Tokens / Seconds : 0;

    /// <summary>Seconds until the model was ready, a download not included.</summary>
    public double LoadSeconds { get; init; }

    /// <summary>The most memory the process had resident.</summary>
    public long PeakBytes { get; init; } = PeakResidentBytes();

    /// <summary>Where it was computed.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>In what precision.</summary>
    public string Dtype { get; init; } = "fp32";

    /// <summary>On how many threads.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>What each kernel took, with --profile.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public IReadOnlyList<KernelTime> KernelTimes { get; init; } = [];

    /// <summary>The option that asks for the file.</summary>
    public static CliOption<string?> Option() => Opt.Text("--stats", "FILE", "Write texts, tokens, seconds, tokens per second, memory and device as JSON");

    /// <summary>Writes the file, if one is asked for, and says the essence.</summary>
    public void Report(Terminal terminal, string what, string unit, string? path)
    {
        terminal.Say($"{what} {Terminal.Count(Texts)} {(Texts == 1 ? unit[..^1] : unit)} ({Terminal.Count(Tokens)} tokens) in {Terminal.Count(Math.Round(Seconds, 1))} s: "
            + $"{Terminal.Count(Math.Round(TokensPerSecond))} tokens/s on {Device} ({Dtype}, {Threads} thread{(Threads == 1 ? "" : "s")})");
        KernelTable.Show(terminal, KernelTimes);
        if (path is not null) AtomicFile.WriteAllText(path, JsonSerializer.Serialize(this, s_json) + "\n");
    }

    private static long PeakResidentBytes()
    {
        using Process process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }
}
