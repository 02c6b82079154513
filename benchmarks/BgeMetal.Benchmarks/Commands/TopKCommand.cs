using System.CommandLine;
using System.Globalization;
using System.Numerics.Tensors;
using BgeMetal.Benchmarks.Search;
using BgeMetal.Benchmarks.Timing;
using CsvHelper.Configuration.Attributes;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>One line of benchmarks/results/top_k.csv; GB/s counts the corpus once a query, as a scan without batching reads it.</summary>
internal sealed record TopKRow
{
    [Name("date")] public required string Date { get; init; }
    [Name("commit")] public required string Commit { get; init; }
    [Name("cpu")] public required string Cpu { get; init; }
    [Name("threads")] public required int Threads { get; init; }
    [Name("engine")] public required string Engine { get; init; }
    [Name("rows")] public required int Rows { get; init; }
    [Name("dimensions")] public required int Dimensions { get; init; }
    [Name("queries")] public required int Queries { get; init; }
    [Name("k")] public required int K { get; init; }
    [Name("rounds")] public required int Rounds { get; init; }
    [Name("ms_min")] public required double MsMin { get; init; }
    [Name("ms_p20")] public required double MsP20 { get; init; }
    [Name("ms_p50")] public required double MsP50 { get; init; }
    [Name("ms_p80")] public required double MsP80 { get; init; }
    [Name("cpu_ms_min")] public required double CpuMsMin { get; init; }
    [Name("scanned_gb_per_second")] public required double GigabytesPerSecond { get; init; }
    [Name("ratio_to_peer")] public required double RatioToPeer { get; init; }
}

/// <summary><c>top-k</c>: exact nearest neighbours of 1, 32 and 128 queries among 100 000 random unit vectors, all engines by turns.</summary>
internal static class TopKCommand
{
    private sealed record Settings(int Rows, int Dimensions, int[] Queries, int K, int Threads, double Seconds, string Output);

    public static Command Create()
    {
        Option<int> rows = new("--rows") { DefaultValueFactory = _ => 100_000 };
        Option<int> dimensions = new("--dimensions") { DefaultValueFactory = _ => 512 };
        Option<int[]> queries = new("--queries") { Description = "Queries of one call", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [1, 32, 128] };
        Option<int> k = new("--top-k") { DefaultValueFactory = _ => 10 };
        Option<int> threads = new("--threads") { DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<double> seconds = new("--seconds") { Description = "Measuring time of each case", DefaultValueFactory = _ => 5 };
        Option<string> output = new("--output") { Description = "Result file to append to; '' for none", DefaultValueFactory = _ => Path.Combine(Path.GetDirectoryName(ResultFile.DefaultPath)!, "top_k.csv") };
        Command command = new("top-k", "Compare exact search with a loop of dot products") { rows, dimensions, queries, k, threads, seconds, output };
        command.SetAction(parsed => Run(new(parsed.GetValue(rows), parsed.GetValue(dimensions), parsed.GetValue(queries)!, parsed.GetValue(k), parsed.GetValue(threads),
            parsed.GetValue(seconds), parsed.GetValue(output)!)));
        return command;
    }

    private static int Run(Settings settings)
    {
        float[] corpus = UnitRows(settings.Rows, settings.Dimensions, seed: 1);
        string commit = ResultFile.Commit(), cpu = ResultFile.Cpu();
        Console.WriteLine($"{cpu}, commit {commit}: {settings.Rows} x {settings.Dimensions}, top {settings.K}");
        Console.WriteLine($"{"engine",-22} {"thr",3} {"queries",7} {"rounds",6} {"min ms",9} {"p50 ms",9} {"cpu ms",9} {"GB/s",7} {"ratio",6}");
        foreach (int threads in (int[])[.. new[] { 1, settings.Threads }.Distinct()])
        {
            ITopKEngine[] engines = [new DotLoop(corpus, settings.Dimensions, threads), new ManagedTopK(corpus, settings.Dimensions, threads)];
            foreach (int count in settings.Queries)
                Measure(settings, engines, threads, UnitRows(count, settings.Dimensions, seed: 2), count, commit, cpu);
            foreach (ITopKEngine engine in engines)
                engine.Dispose();
        }
        return 0;
    }

    private static void Measure(Settings settings, ITopKEngine[] engines, int threads, float[] queries, int count, string commit, string cpu)
    {
        long[][] rows = [.. engines.Select(_ => new long[count * settings.K])];
        float[][] scores = [.. engines.Select(_ => new float[count * settings.K])];
        Timings[] timings = PairedTiming.Run([.. engines.Select((engine, i) => (Action)(() => engine.Search(queries, settings.K, rows[i], scores[i])))],
            TimeSpan.FromSeconds(settings.Seconds), minimumRounds: 5, maximumRounds: 500);
        for (int i = 1; i < engines.Length; i++)
            RequireAgreement(engines[0].Name, scores[0], engines[i].Name, scores[i]);
        TopKRow[] results = [.. engines.Select((engine, i) => new TopKRow
        {
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            Commit = commit,
            Cpu = cpu,
            Threads = threads,
            Engine = engine.Name,
            Rows = settings.Rows,
            Dimensions = settings.Dimensions,
            Queries = count,
            K = settings.K,
            Rounds = timings[i].Rounds,
            MsMin = Math.Round(timings[i].Minimum, 3),
            MsP20 = Math.Round(timings[i].Percentile(0.2), 3),
            MsP50 = Math.Round(timings[i].Percentile(0.5), 3),
            MsP80 = Math.Round(timings[i].Percentile(0.8), 3),
            CpuMsMin = Math.Round(timings[i].MinimumCpuMs, 3),
            GigabytesPerSecond = Math.Round(4e-6 * settings.Rows * settings.Dimensions * count / timings[i].Minimum, 1),
            RatioToPeer = Math.Round(timings[0].Minimum / timings[i].Minimum, 3),
        })];
        foreach (TopKRow row in results)
            Console.WriteLine($"{row.Engine,-22} {row.Threads,3} {row.Queries,7} {row.Rounds,6} {row.MsMin,9:F2} {row.MsP50,9:F2} {row.CpuMsMin,9:F2} {row.GigabytesPerSecond,7:F1} {row.RatioToPeer,6:F2}");
        if (settings.Output.Length > 0)
            ResultFile.Append(settings.Output, results);
    }

    /// <summary>Rows of almost equal scores may change places between engines; the scores by rank may not differ.</summary>
    private static void RequireAgreement(string one, float[] expected, string other, float[] actual)
    {
        for (int i = 0; i < expected.Length; i++)
            if (!(Math.Abs(expected[i] - actual[i]) <= 1e-5f))
                throw new BgeMetalException($"score {i}", $"{one} finds {expected[i]}, {other} finds {actual[i]}");
    }

    private static float[] UnitRows(int rows, int dimensions, int seed)
    {
        Random random = new(seed);
        float[] values = GC.AllocateUninitializedArray<float>(checked(rows * dimensions), pinned: true);
        for (int i = 0; i < values.Length; i++)
            values[i] = 2f * random.NextSingle() - 1f;
        for (int row = 0; row < rows; row++)
        {
            Span<float> vector = values.AsSpan(row * dimensions, dimensions);
            TensorPrimitives.Divide(vector, TensorPrimitives.Norm(vector), vector);
        }
        return values;
    }
}
