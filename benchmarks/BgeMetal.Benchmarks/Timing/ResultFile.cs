using System.Diagnostics;
using System.Globalization;
using CsvHelper;
using CsvHelper.Configuration;
using CsvHelper.Configuration.Attributes;

namespace BgeMetal.Benchmarks.Timing;

/// <summary>One line of benchmarks/results/end_to_end.csv. Tokens are real tokens; the ratios say how many times faster than the fastest peer of the same run.</summary>
internal sealed record EndToEndRow
{
    [Name("date")] public required string Date { get; init; }
    [Name("commit")] public required string Commit { get; init; }
    [Name("cpu")] public required string Cpu { get; init; }
    [Name("threads")] public required int Threads { get; init; }
    [Name("engine")] public required string Engine { get; init; }
    [Name("engine_version")] public required string EngineVersion { get; init; }
    [Name("model")] public required string Model { get; init; }
    [Name("workload")] public required string Workload { get; init; }
    [Name("texts")] public required int Texts { get; init; }
    [Name("tokens")] public required long Tokens { get; init; }
    [Name("rounds")] public required int Rounds { get; init; }
    [Name("ms_min")] public required double MsMin { get; init; }
    [Name("ms_p20")] public required double MsP20 { get; init; }
    [Name("ms_p50")] public required double MsP50 { get; init; }
    [Name("ms_p80")] public required double MsP80 { get; init; }
    [Name("cpu_ms_min")] public required double CpuMsMin { get; init; }
    [Name("tokens_per_second")] public required double TokensPerSecond { get; init; }
    [Name("ratio_to_peer")] public required double RatioToPeer { get; init; }
    [Name("ratio_of_minima")] public required double RatioOfMinima { get; init; }
    [Name("peak_bytes")] public required long? PeakBytes { get; init; }
}

/// <summary>One line of benchmarks/results/pretrain_step.csv. The peak is how far resident memory rose while the model was loaded and trained; activations are the arena's.</summary>
internal sealed record PretrainStepRow
{
    [Name("date")] public required string Date { get; init; }
    [Name("commit")] public required string Commit { get; init; }
    [Name("cpu")] public required string Cpu { get; init; }
    [Name("threads")] public required int Threads { get; init; }
    [Name("model")] public required string Model { get; init; }
    [Name("form")] public required string Form { get; init; }
    [Name("texts")] public required int Texts { get; init; }
    [Name("tokens")] public required long Tokens { get; init; }
    [Name("steps")] public required int Steps { get; init; }
    [Name("ms_min")] public required double MsMin { get; init; }
    [Name("ms_p50")] public required double MsP50 { get; init; }
    [Name("cpu_ms_min")] public required double CpuMsMin { get; init; }
    [Name("tokens_per_second")] public required double TokensPerSecond { get; init; }
    [Name("parameter_bytes")] public required long ParameterBytes { get; init; }
    [Name("activation_bytes")] public required long ActivationBytes { get; init; }
    [Name("peak_bytes")] public required long? PeakBytes { get; init; }
    [Name("loss")] public required double Loss { get; init; }
}

/// <summary>Appends rows to a result file; old rows are never changed.</summary>
internal static class ResultFile
{
    /// <summary>Where the benchmark's committed results lie, seen from the checkout's root.</summary>
    public static string DefaultPath => Path.Combine(RepositoryRoot, "benchmarks", "results", "end_to_end.csv");

    /// <summary>The nearest folder above the program that holds the solution; the working directory where there is none.</summary>
    public static string RepositoryRoot { get; } = FindRoot();

    /// <summary>Adds the rows, with a header where the file is new.</summary>
    public static void Append<TRow>(string path, IReadOnlyList<TRow> rows)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        bool empty = !File.Exists(path) || new FileInfo(path).Length == 0;
        using StreamWriter text = new(path, append: true);
        using CsvWriter csv = new(text, new CsvConfiguration(CultureInfo.InvariantCulture) { HasHeaderRecord = empty, NewLine = "\n" });
        csv.WriteRecords(rows);
    }

    /// <summary>The commit that was measured, with "-dirty" for a changed checkout; "unknown" without git.</summary>
    public static string Commit()
    {
        try
        {
            using Process git = Process.Start(new ProcessStartInfo("git", ["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
            {
                WorkingDirectory = RepositoryRoot,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            string name = git.StandardOutput.ReadToEnd().Trim();
            git.WaitForExit();
            return git.ExitCode == 0 ? name : "unknown";
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "unknown";
        }
    }

    /// <summary>The processor's name, its family and model where a virtual machine hides the name.</summary>
    public static string Cpu()
    {
        if (!File.Exists("/proc/cpuinfo"))
            return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture.ToString();
        Dictionary<string, string> facts = [];
        foreach (string[] fact in File.ReadLines("/proc/cpuinfo").Select(line => line.Split(':', 2, StringSplitOptions.TrimEntries)).Where(fact => fact.Length == 2))
            facts.TryAdd(fact[0], fact[1]);
        return $"{facts.GetValueOrDefault("model name", "unknown")} (family {facts.GetValueOrDefault("cpu family", "?")} model {facts.GetValueOrDefault("model", "?")})";
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "BgeMetal.sln")))
                return folder.FullName;
        return Environment.CurrentDirectory;
    }
}
