using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using BgeMetal.Benchmarks.Search;
using BgeMetal.Benchmarks.Timing;
using CsvHelper.Configuration.Attributes;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>One line of benchmarks/results/mining.csv. Seconds are for all queries; where fewer were searched they are scaled up, and queries_measured says how many those were.</summary>
internal sealed record MiningResult
{
    [Name("date")] public required string Date { get; init; }
    [Name("commit")] public required string Commit { get; init; }
    [Name("cpu")] public required string Cpu { get; init; }
    [Name("threads")] public required int Threads { get; init; }
    [Name("engine")] public string Engine { get; init; } = "";
    [Name("engine_version")] public string EngineVersion { get; init; } = "";
    [Name("queries")] public required int Queries { get; init; }
    [Name("passages")] public required int Passages { get; init; }
    [Name("dimensions")] public required int Dimensions { get; init; }
    [Name("k")] public required int K { get; init; }
    [Name("queries_measured")] public int QueriesMeasured { get; init; }
    [Name("rounds")] public int Rounds { get; init; }
    [Name("seconds_min")] public double SecondsMin { get; init; }
    [Name("seconds_p50")] public double SecondsP50 { get; init; }
    [Name("cpu_seconds_min")] public double CpuSecondsMin { get; init; }
    [Name("queries_per_second")] public double QueriesPerSecond { get; init; }
    [Name("gflop_per_second")] public double GigaflopsPerSecond { get; init; }
    [Name("ratio_to_loop")] public double? RatioToLoop { get; init; }
    [Name("ratio_to_blas")] public double? RatioToBlas { get; init; }
    [Name("peak_resident_bytes")] public long? PeakResidentBytes { get; init; }
    [Name("peak_anonymous_bytes")] public long? PeakAnonymousBytes { get; init; }
}

/// <summary>
/// <c>mining</c>: hard negatives for many queries among many passages, vectors made up. The whole of <c>mine</c> first, from an empty work folder (vectors written to disk,
/// mapped, searched, negatives chosen, the file joined), for its time and its memory, with a run that is stopped and goes on where asked; then the search alone, by turns:
/// the miner's over mapped vectors, a loop of dot products and OpenBLAS' SGEMM with a pass for the best, both over an array.
/// </summary>
internal static class MiningCommand
{
    private sealed record Settings(int Queries, int Passages, int Dimensions, int K, int Threads, int LoopQueries, int Rounds, bool Resume, string? Blas, string Output);

    public static Command Create()
    {
        Option<int> queries = new("--queries") { DefaultValueFactory = _ => 20_000 };
        Option<int> passages = new("--passages") { DefaultValueFactory = _ => 200_000 };
        Option<int> dimensions = new("--dimensions") { DefaultValueFactory = _ => 384 };
        Option<int> k = new("--top-k") { Description = "Ranks of a query that are looked at", DefaultValueFactory = _ => 200 };
        Option<int> threads = new("--threads") { DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<int> loop = new("--loop-queries") { Description = "Queries that the loop of dot products searches; its time is scaled up to all", DefaultValueFactory = _ => 500 };
        Option<int> rounds = new("--rounds") { DefaultValueFactory = _ => 3 };
        Option<bool> resume = new("--resume") { Description = "Also stop a run in the middle, go on, and require the same file" };
        Option<string?> blas = new("--blas") { Description = "OpenBLAS' library file; found by the system by default, left out where there is none" };
        Option<string> output = new("--output") { Description = "Result file to append to; '' for none", DefaultValueFactory = _ => Path.Combine(Path.GetDirectoryName(ResultFile.DefaultPath)!, "mining.csv") };
        Command command = new("mining", "Compare the search behind hard negatives with a loop of dot products and with BLAS") { queries, passages, dimensions, k, threads, loop, rounds, resume, blas, output };
        command.SetAction(parsed => Run(new(parsed.GetValue(queries), parsed.GetValue(passages), parsed.GetValue(dimensions), parsed.GetValue(k), parsed.GetValue(threads),
            Math.Min(parsed.GetValue(loop), parsed.GetValue(queries)), parsed.GetValue(rounds), parsed.GetValue(resume), parsed.GetValue(blas), parsed.GetValue(output)!)));
        return command;
    }

    private static int Run(Settings settings)
    {
        string folder = Directory.CreateTempSubdirectory("bgemetal-mining-").FullName;
        try
        {
            MiningResult blank = Blank(settings);
            Console.WriteLine($"{blank.Cpu}, commit {blank.Commit}: {settings.Queries} queries, {settings.Passages} passages of {settings.Dimensions}, top {settings.K}, {settings.Threads} threads");
            MiningResult whole = Whole(settings, new MinedFiles(folder, settings.Queries, settings.Passages, settings.Dimensions, settings.K, settings.Threads), blank);
            MiningResult[] searches = Searches(settings, folder, blank);
            MiningResult[] all = [.. searches.Prepend(whole).Select(row => row with { RatioToLoop = Ratio(searches[1], row), RatioToBlas = Ratio(searches.ElementAtOrDefault(2), row) })];
            Console.WriteLine($"{"engine",-22} {"queries",7} {"of",7} {"min s",9} {"p50 s",9} {"cpu s",9} {"q/s",9} {"GFLOP/s",8} {"to loop",8} {"to BLAS",8} {"resident MB",12} {"own MB",8}");
            foreach (MiningResult row in all)
                Console.WriteLine($"{row.Engine,-22} {row.QueriesMeasured,7} {row.Queries,7} {row.SecondsMin,9:F2} {row.SecondsP50,9:F2} {row.CpuSecondsMin,9:F2} {row.QueriesPerSecond,9:F1} {row.GigaflopsPerSecond,8:F1} "
                    + $"{row.RatioToLoop,8:F2} {row.RatioToBlas,8:F2} {row.PeakResidentBytes / 1e6,12:F0} {row.PeakAnonymousBytes / 1e6,8:F0}");
            if (settings.Output.Length > 0)
                ResultFile.Append(settings.Output, all);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static MiningResult Blank(Settings settings) => new()
    {
        Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
        Commit = ResultFile.Commit(),
        Cpu = ResultFile.Cpu(),
        Threads = settings.Threads,
        Queries = settings.Queries,
        Passages = settings.Passages,
        Dimensions = settings.Dimensions,
        K = settings.K,
    };

    private static double? Ratio(MiningResult? peer, MiningResult row) => peer is null ? null : Math.Round(peer.SecondsMin / row.SecondsMin, 3);

    private static MiningResult Whole(Settings settings, MinedFiles files, MiningResult blank)
    {
        PeakMemory resident = PeakMemory.Start();
        using AnonymousMemory anonymous = AnonymousMemory.Start();
        Clock clock = Clock.Start();
        byte[] expected = files.Mine("mined.jsonl", stopAfter: null);
        Elapsed taken = clock.Elapsed();
        MiningResult whole = Timed(blank with
        {
            Engine = "bgemetal-mine",
            EngineVersion = "whole run",
            PeakResidentBytes = resident.GrowthBytes(),
            PeakAnonymousBytes = anonymous.GrowthBytes(),
        }, settings.Queries, [taken]);
        if (settings.Resume)
        {
            if (!files.Mine("resumed.jsonl", stopAfter: settings.Queries / 2).AsSpan().SequenceEqual(expected))
                throw new BgeMetalException("mining", "a run that was stopped and went on gave another file");
            Console.WriteLine("a run that was stopped in the middle and went on gave the same file");
        }
        return whole;
    }

    private static MiningResult[] Searches(Settings settings, string folder, MiningResult blank)
    {
        float[] queries = MinedFiles.Queries(settings.Dimensions).Rows(0, settings.Queries), few = queries[..(settings.LoopQueries * settings.Dimensions)];
        SyntheticVectors vectors = MinedFiles.Passages(settings.Dimensions);
        List<Contestant> contestants = [new(new MappedTopK(Path.Combine(folder, "search"), vectors, settings.Passages, settings.Threads), "search alone", queries)];
        (long? resident, long? anonymous) = Memory(settings, contestants[0] with { Queries = few });
        float[] corpus = vectors.Rows(0, settings.Passages);
        contestants.Add(new(new DotLoop(corpus, settings.Dimensions, settings.Threads), "System.Numerics.Tensors " + typeof(System.Numerics.Tensors.TensorPrimitives).Assembly.GetName().Version, few));
        if (OpenBlas.TryLoad(settings.Blas, settings.Threads) is { } blas)
            contestants.Add(new(new BlasTopK(blas, corpus, settings.Dimensions, settings.Threads), blas.Configuration, queries));
        else
            Console.WriteLine("OpenBLAS is not on this machine (Debian's libopenblas0-pthread, or --blas FILE): left out");
        RequireAgreement(settings, contestants, few);
        List<Elapsed>[] taken = [.. contestants.Select(_ => new List<Elapsed>())];
        for (int round = 0; round < settings.Rounds; round++)
            for (int turn = 0; turn < contestants.Count; turn++)
            {
                int who = round % 2 == 0 ? turn : contestants.Count - 1 - turn;
                taken[who].Add(Search(settings, contestants[who]).Taken);
            }
        foreach (Contestant contestant in contestants)
            contestant.Engine.Dispose();
        return [.. contestants.Select((contestant, i) => Timed(blank with
        {
            Engine = contestant.Engine.Name,
            EngineVersion = contestant.Version,
            PeakResidentBytes = i == 0 ? resident : null,
            PeakAnonymousBytes = i == 0 ? anonymous : null,
        }, contestant.Queries.Length / settings.Dimensions, taken[i]))];
    }

    private static (long? Resident, long? Anonymous) Memory(Settings settings, Contestant contestant)
    {
        PeakMemory resident = PeakMemory.Start();
        using AnonymousMemory anonymous = AnonymousMemory.Start();
        Search(settings, contestant);
        return (resident.GrowthBytes(), anonymous.GrowthBytes());
    }

    /// <summary>Rows of almost equal scores may change places between engines; the scores by rank may not differ. Also everybody's warm-up.</summary>
    private static void RequireAgreement(Settings settings, List<Contestant> contestants, float[] queries)
    {
        float[] expected = Search(settings, contestants[0] with { Queries = queries }).Scores;
        foreach (Contestant contestant in contestants.Skip(1))
        {
            float[] actual = Search(settings, contestant with { Queries = queries }).Scores;
            for (int i = 0; i < expected.Length; i++)
                if (!(Math.Abs(expected[i] - actual[i]) <= 1e-5f))
                    throw new BgeMetalException($"score {i}", $"{contestants[0].Engine.Name} finds {expected[i]}, {contestant.Engine.Name} finds {actual[i]}");
        }
    }

    private static MiningResult Timed(MiningResult row, int measured, IReadOnlyList<Elapsed> taken)
    {
        double scale = (double)row.Queries / measured;
        double[] sorted = [.. taken.Select(value => value.Seconds * scale).Order()];
        return row with
        {
            QueriesMeasured = measured,
            Rounds = sorted.Length,
            SecondsMin = Math.Round(sorted[0], 3),
            SecondsP50 = Math.Round(sorted[sorted.Length / 2], 3),
            CpuSecondsMin = Math.Round(taken.Min(value => value.CpuSeconds) * scale, 3),
            QueriesPerSecond = Math.Round(row.Queries / sorted[0], 1),
            GigaflopsPerSecond = Math.Round(2e-9 * row.Queries * row.Passages * row.Dimensions / sorted[0], 1),
        };
    }

    private static (Elapsed Taken, float[] Scores) Search(Settings settings, Contestant contestant)
    {
        long[] rows = new long[contestant.Queries.Length / settings.Dimensions * settings.K];
        float[] scores = new float[rows.Length];
        Clock clock = Clock.Start();
        contestant.Engine.Search(contestant.Queries, settings.K, rows, scores);
        return (clock.Elapsed(), scores);
    }

    /// <summary>Time that passed, and processor time of all threads.</summary>
    private readonly record struct Elapsed(double Seconds, double CpuSeconds);

    private readonly record struct Clock(long Started, TimeSpan Cpu)
    {
        public static Clock Start() => new(Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);

        public Elapsed Elapsed() => new(Stopwatch.GetElapsedTime(Started).TotalSeconds, (Environment.CpuUsage.TotalTime - Cpu).TotalSeconds);
    }

    private sealed record Contestant(ITopKEngine Engine, string Version, float[] Queries);
}
