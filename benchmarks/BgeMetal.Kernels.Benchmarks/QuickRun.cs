using System.Diagnostics;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>
/// The quick harness: measures the multiply-add peak, then each case for about a third of a second, and prints the best and the median time, GFLOP/s and
/// the share of that peak (of the best time: what the code can do; the median tells how busy the machine was).
/// The printed share refers to the peak measured just before and after the case; the rows of kernels.csv refer to the highest peak of the run.
/// </summary>
internal static class QuickRun
{
    private static readonly (int K, int N)[] s_small = [(384, 384), (384, 1536), (1536, 384), (512, 512), (512, 2048), (2048, 512)];
    private static readonly (int K, int N)[] s_base = [(768, 768), (768, 3072), (3072, 768)];

    private static double s_highestPeak;

    public static int Execute(string[] args)
    {
        int threads = Option(args, "--threads", 1);
        if (Option(args, "--width", 0) is int width and > 0) VectorUnit.Use((VectorWidth)width);
        using WorkerTeam team = new(threads);
        double peak = PeakMeter.FlopsPerSecond(team);
        Console.WriteLine($"{VectorUnit.Description}; {threads} thread(s), {(threads == 1 && OperatingSystem.IsLinux() ? "processor" : "wall")} time; multiply-add peak {peak / 1e9:f1} GFLOP/s");
        List<KernelRow> rows = [];
        foreach (KernelCase item in Cases(args))
        {
            using (item) rows.Add(Measure(item, team));
        }
        if (args.Contains("team")) MeasureForkJoin(team);
        if (args.Contains("--append"))
            KernelRow.Append(Path.Combine("benchmarks", "results", "kernels.csv"), [.. rows.Select(r => r with { RooflinePercent = Math.Round(1e14 * r.TeraflopsPerSecond / s_highestPeak, 1) })]);
        return 0;
    }

    private static IEnumerable<KernelCase> Cases(string[] args)
    {
        bool all = !args.Any(a => a is "gemm" or "attention" or "rows" or "topk" or "training" or "team");
        if (all || args.Contains("gemm"))
        {
            foreach ((int k, int n) in s_small.Concat(s_base))
                foreach (int m in new[] { 1, 16, 128, 512, 4096 })
                    yield return new LinearCase(m, k, n, LinearEpilogue.None);
            yield return new LinearCase(512, 384, 1536, LinearEpilogue.Gelu);
            yield return new LinearCase(512, 768, 3072, LinearEpilogue.Gelu);
            yield return new LinearCase(512, 1536, 384, LinearEpilogue.Residual);
        }
        if (all || args.Contains("attention"))
        {
            yield return new AttentionCase(32, 128, 12, 32);
            yield return new AttentionCase(2, 128, 12, 32);
            yield return new AttentionCase(2, 128, 8, 64);
            yield return new AttentionCase(32, 128, 12, 32, clsOnly: true);
            yield return new AttentionCase(128, 16, 12, 32);
            yield return new AttentionCase(8, 512, 12, 64);
            yield return new AttentionCase(1, 8192, 2, 64);
        }
        if (all || args.Contains("rows"))
        {
            yield return new LayerNormCase(256, 384);
            yield return new LayerNormCase(4096, 768);
            yield return new ElementwiseCase<GeluFunction>(12, 512);
            yield return new ElementwiseCase<TanhFunction>(12, 512);
            yield return new ElementwiseCase<Exp2Function>(12, 512);
        }
        if (all || args.Contains("training"))
        {
            foreach ((int k, int n) in s_small)
                foreach (int m in new[] { 128, 512, 4096 })
                    yield return new LinearWeightCase(m, k, n);
            yield return new LinearWeightCase(512, 768, 3072);
            foreach ((int sequences, int length, int heads, int headDim) in new[] { (16, 128, 12, 32), (16, 128, 8, 64), (4, 512, 12, 32), (64, 17, 12, 32) })
            {
                yield return new AttentionCase(sequences, length, heads, headDim);
                yield return new AttentionTrainingCase(sequences, length, heads, headDim, backward: false, 0.1f);
                yield return new AttentionTrainingCase(sequences, length, heads, headDim, backward: true, 0f);
                yield return new AttentionTrainingCase(sequences, length, heads, headDim, backward: true, 0.1f);
            }
            yield return new LinearCrossEntropyCase(300, 21128, 512, backward: false);
            yield return new LinearCrossEntropyCase(300, 21128, 512, backward: true);
            foreach (string op in new[] { "LayerNorm", "Dropout", "AdamW" })
                yield return new TrainingRowCase(op, 4096, 384);
        }
        if (all || args.Contains("topk"))
        {
            yield return new ReadCase(100_000 * 512);
            foreach (int m in new[] { 1, 2, 8, 32, 128 })
                yield return new TopKCase(m, 100_000, 512, 10);
        }
    }

    private static KernelRow Measure(KernelCase item, WorkerTeam team)
    {
        double peak = PeakMeter.FlopsPerSecond(team, 5);  // beside each case, because the clock follows the other load
        item.Run(team);
        List<double> times = [];
        long begin = Stopwatch.GetTimestamp();
        int batch = 1;
        while (times.Count < 7 || (Stopwatch.GetElapsedTime(begin).TotalSeconds < 0.33 && times.Count < 2000))
        {
            double start = Clock.Now(team.Threads);
            for (int i = 0; i < batch; i++) item.Run(team);
            double seconds = Clock.Now(team.Threads) - start;
            if (seconds < 50e-6 && batch < 10_000)
            {
                batch *= 2;
                times.Clear();
            }
            else
            {
                times.Add(seconds / batch);
            }
        }
        peak = Math.Max(peak, PeakMeter.FlopsPerSecond(team, 5));
        s_highestPeak = Math.Max(s_highestPeak, peak);
        times.Sort();
        double best = times[0];
        string rate = item.Flops > 0
            ? $"{item.Flops / best / 1e9,8:f1} GFLOP/s {100 * item.Flops / best / peak,5:f1} %" : $"{item.Bytes / best / 1e9,8:f1} GB/s          ";
        Console.WriteLine($"{item.Op,-18} {item.Mode,-8} {item.Shape,-30} best {best * 1e6,10:f1} us  median {times[times.Count / 2] * 1e6,10:f1} us {rate}");
        return new KernelRow
        {
            Op = item.Op,
            Shape = item.Shape,
            Mode = $"{item.Mode}, {team.Threads} thread(s)",
            P20 = Microseconds(0.2),
            P50 = Microseconds(0.5),
            P80 = Microseconds(0.8),
            GigabytesPerSecond = Math.Round(item.Bytes / best / 1e9, 2),
            TeraflopsPerSecond = Math.Round(item.Flops / best / 1e12, 4),
            RooflinePercent = item.Flops > 0 ? Math.Round(100 * item.Flops / best / peak, 1) : 0,
            PeakBytes = NativeBuffer.AllocatedBytes,
        };

        double Microseconds(double quantile) => Math.Round(times[(int)(quantile * (times.Count - 1))] * 1e6, 2);
    }

    private static void MeasureForkJoin(WorkerTeam team)
    {
        EmptyJob job = default;
        double best = double.MaxValue;
        for (int run = 0; run < 200; run++)
        {
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < 100; i++) team.Run(ref job, team.Threads * 2);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds / 100);
        }
        Console.WriteLine($"fork and join of {team.Threads} thread(s): {best * 1e6:f2} us");
    }

    private static int Option(string[] args, string name, int otherwise)
    {
        int at = Array.IndexOf(args, name);
        return at >= 0 && at + 1 < args.Length ? int.Parse(args[at + 1], System.Globalization.CultureInfo.InvariantCulture) : otherwise;
    }

    private struct EmptyJob : ITeamJob
    {
        public readonly void Execute(int part, int worker) { }
    }
}
