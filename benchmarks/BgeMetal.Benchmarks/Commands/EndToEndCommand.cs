using System.CommandLine;
using System.Globalization;
using System.Numerics.Tensors;
using BgeMetal.Benchmarks.Engines;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Onnx;
using BgeMetal.Benchmarks.Timing;

namespace BgeMetal.Benchmarks.Commands;

/// <summary><c>end-to-end</c>: token ids to normalised vectors, all engines by turns in one process over the same random weights and texts.</summary>
internal static class EndToEndCommand
{
    private sealed record Settings(string[] Models, string[] Workloads, EngineLoading Loading, int Threads, double Seconds, int Rounds, int Seed, string Output);

    public static Command Create()
    {
        Option<string[]> models = new("--model") { Description = "Model shapes", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [.. EncoderShape.Known.Select(shape => shape.Name)] };
        Option<string[]> workloads = new("--workload") { Description = "Workloads whose names contain one of these; all by default", AllowMultipleArgumentsPerToken = true };
        Option<OnnxForm[]> peers = new("--peer") { Description = "Forms of the ONNX model; ratios refer to the fastest of them", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [OnnxForm.Plain, OnnxForm.Fused] };
        Option<bool> spinning = new("--spinning") { Description = "Let the peer's idle threads spin, as it does by default", DefaultValueFactory = _ => true };
        Option<int> threads = new("--threads") { Description = "Threads of every engine (the one-text workloads use one)", DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<double> seconds = new("--seconds") { Description = "Measuring time of each workload", DefaultValueFactory = _ => 10 };
        Option<int> rounds = new("--rounds") { Description = "Rounds of each workload at least", DefaultValueFactory = _ => 5 };
        Option<int> seed = new("--seed") { Description = "Seed of weights and texts", DefaultValueFactory = _ => 42 };
        Option<string> output = new("--output") { Description = "Result file to append to; '' for none", DefaultValueFactory = _ => ResultFile.DefaultPath };
        Command command = new("end-to-end", "Compare embedding speed with ONNX Runtime") { models, workloads, peers, spinning, threads, seconds, rounds, seed, output };
        command.Aliases.Add("EndToEnd");
        command.SetAction(parsed => Run(new(parsed.GetValue(models)!, parsed.GetValue(workloads) ?? [],
            new(parsed.GetValue(peers)!, parsed.GetValue(spinning)), parsed.GetValue(threads), parsed.GetValue(seconds), parsed.GetValue(rounds), parsed.GetValue(seed),
            parsed.GetValue(output)!)));
        return command;
    }

    private static int Run(Settings settings)
    {
        string commit = ResultFile.Commit(), cpu = ResultFile.Cpu();
        Console.WriteLine($"{cpu}, commit {commit}, ONNX Runtime {OnnxEncoder.Version}");
        Console.WriteLine($"{"model",-13} {"workload",-17} {"engine",-26} {"thr",3} {"rounds",6} {"min ms",9} {"p50 ms",9} {"cpu ms",9} {"tokens/s",9} {"ratio",6} {"of min",6} {"padding",7}");
        foreach (EncoderShape shape in settings.Models.Select(EncoderShape.Named))
        {
            using ModelFolder folder = new(EncoderWeights.Random(shape, settings.Seed), settings.Loading.Peers);
            IReadOnlyList<Workload> all = Workload.All(shape.VocabularySize, settings.Seed);
            Workload[] wanted = [.. all.Where(workload => settings.Workloads.Length == 0 || settings.Workloads.Any(part => workload.Name.Contains(part, StringComparison.Ordinal)))];
            if (wanted.Length == 0)
                throw new BgeMetalException($"no workload is called {string.Join(" or ", settings.Workloads)}", "known are " + string.Join(", ", all.Select(workload => workload.Name)));
            foreach (IGrouping<int, Workload> group in wanted.GroupBy(workload => workload.SingleText ? 1 : settings.Threads))
            {
                List<LoadedEngine> engines = settings.Loading.Load(folder, group.Key, all[0], shape.HiddenSize);
                foreach (Workload workload in group)
                {
                    EndToEndRow[] rows = Measure(settings, engines, shape, workload, group.Key, commit, cpu);
                    Print(rows, (workload.Arrival ? PaddedBatching.Arrival : PaddedBatching.Sorted).PaddingFactor(workload.TokenIds));
                    if (settings.Output.Length > 0)
                        ResultFile.Append(settings.Output, rows);
                }
                engines.ForEach(engine => engine.Dispose());
            }
        }
        return 0;
    }

    private static EndToEndRow[] Measure(Settings settings, List<LoadedEngine> engines, EncoderShape shape, Workload workload, int threads, string commit, string cpu)
    {
        foreach (OnnxEngine peer in engines.Select(loaded => loaded.Engine).OfType<OnnxEngine>())
            peer.Batching = workload.Arrival ? PaddedBatching.Arrival : PaddedBatching.Sorted;
        float[][][] outputs = [.. engines.Select(_ => workload.TokenIds.Select(_ => new float[shape.HiddenSize]).ToArray())];
        Timings[] timings = PairedTiming.Run([.. engines.Select((loaded, i) => (Action)(() => loaded.Engine.Embed(workload.TokenIds, outputs[i])))],
            TimeSpan.FromSeconds(settings.Seconds), settings.Rounds, maximumRounds: 500);
        for (int i = 1; i < engines.Count; i++)
            RequireAgreement(engines[0].Engine, outputs[0], engines[i].Engine, outputs[i]);
        Timings[] peers = [.. timings.Where((_, i) => engines[i].Engine is OnnxEngine)];
        double peerMedian = peers.Min(peer => peer.Percentile(0.5)), peerMinimum = peers.Min(peer => peer.Minimum);
        return [.. engines.Select((loaded, i) => new EndToEndRow
        {
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            Commit = commit,
            Cpu = cpu,
            Threads = threads,
            Engine = loaded.Engine.Name,
            EngineVersion = loaded.Engine.Version,
            Model = shape.Name,
            Workload = workload.Name,
            Texts = workload.TokenIds.Length,
            Tokens = workload.Tokens,
            Rounds = timings[i].Rounds,
            MsMin = Math.Round(timings[i].Minimum, 3),
            MsP20 = Math.Round(timings[i].Percentile(0.2), 3),
            MsP50 = Math.Round(timings[i].Percentile(0.5), 3),
            MsP80 = Math.Round(timings[i].Percentile(0.8), 3),
            CpuMsMin = Math.Round(timings[i].MinimumCpuMs, 3),
            TokensPerSecond = Math.Round(workload.Tokens / timings[i].Percentile(0.5) * 1000),
            RatioToPeer = Math.Round(peerMedian / timings[i].Percentile(0.5), 3),
            RatioOfMinima = Math.Round(peerMinimum / timings[i].Minimum, 3),
            PeakBytes = loaded.PeakBytes,
        })];
    }

    /// <summary>A comparison of speed means nothing between engines that compute different vectors.</summary>
    private static void RequireAgreement(IEncoderEngine one, float[][] expected, IEncoderEngine other, float[][] actual)
    {
        for (int text = 0; text < expected.Length; text++)
            if (TensorPrimitives.Dot(expected[text], actual[text]) is var cosine and not > 0.9999f)
                throw new BgeMetalException($"vectors of text {text}", $"{one.Name} and {other.Name} disagree: cosine {cosine}");
    }

    private static void Print(EndToEndRow[] rows, double padding)
    {
        foreach (EndToEndRow row in rows)
            Console.WriteLine($"{row.Model,-13} {row.Workload,-17} {row.Engine,-26} {row.Threads,3} {row.Rounds,6} {row.MsMin,9:F1} {row.MsP50,9:F1} {row.CpuMsMin,9:F1} {row.TokensPerSecond,9:F0} {row.RatioToPeer,6:F2} {row.RatioOfMinima,6:F2} {padding,7:F2}");
    }
}
