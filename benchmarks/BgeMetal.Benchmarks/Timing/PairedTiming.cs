using System.Diagnostics;

namespace BgeMetal.Benchmarks.Timing;

/// <summary>The times of one contestant in milliseconds.</summary>
/// <param name="SortedMs">Elapsed time of every run, ascending.</param>
/// <param name="MinimumCpuMs">The least processor time that a run took, all threads of the process together: the measure for a busy machine, spinning included.</param>
internal sealed record Timings(double[] SortedMs, double MinimumCpuMs)
{
    /// <summary>How often it ran.</summary>
    public int Rounds => SortedMs.Length;

    /// <summary>The fastest run: the least disturbed one on a machine that does other work too.</summary>
    public double Minimum => SortedMs[0];

    /// <summary>The time that a share (0..1) of the runs did not exceed, interpolated linearly between neighbours.</summary>
    public double Percentile(double share)
    {
        double place = share * (SortedMs.Length - 1);
        int below = (int)place, above = Math.Min(below + 1, SortedMs.Length - 1);
        return SortedMs[below] + (place - below) * (SortedMs[above] - SortedMs[below]);
    }
}

/// <summary>
/// Times several contestants in one process by turns (A B, B A, A B, ...), so that a drift of the clock rate or a neighbour's work falls on all of them alike.
/// </summary>
internal static class PairedTiming
{
    /// <summary>
    /// Runs everybody untimed, at least twice and for a fifth of <paramref name="budget"/> (so that tiered compilation has settled), then in rounds until the budget is used
    /// up, but at least <paramref name="minimumRounds"/> and at most <paramref name="maximumRounds"/> times.
    /// </summary>
    public static Timings[] Run(IReadOnlyList<Action> contestants, TimeSpan budget, int minimumRounds, int maximumRounds)
    {
        Stopwatch total = Stopwatch.StartNew();
        for (int i = 0; i < 2 || (i < maximumRounds && total.Elapsed < budget / 5); i++)
            foreach (Action contestant in contestants)
                contestant();
        List<double>[] times = [.. contestants.Select(_ => new List<double>())];
        double[] cpu = [.. contestants.Select(_ => double.PositiveInfinity)];
        total.Restart();
        for (int round = 0; round < minimumRounds || (round < maximumRounds && total.Elapsed < budget); round++)
            for (int turn = 0; turn < contestants.Count; turn++)
            {
                int who = round % 2 == 0 ? turn : contestants.Count - 1 - turn;
                TimeSpan cpuBefore = Environment.CpuUsage.TotalTime;
                long start = Stopwatch.GetTimestamp();
                contestants[who]();
                times[who].Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
                cpu[who] = Math.Min(cpu[who], (Environment.CpuUsage.TotalTime - cpuBefore).TotalMilliseconds);
            }
        return [.. times.Select((list, who) => new Timings([.. list.Order()], cpu[who]))];
    }
}
