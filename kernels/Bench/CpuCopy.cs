using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>The bandwidth of copying, for so many bytes altogether: the level of the memory that a case's operands fit into decides what it can reach.</summary>
internal sealed unsafe class CpuCopy(WorkerTeam team)
{
    private const long Smallest = 64 << 10, Largest = 512 << 20;
    private readonly Dictionary<long, double> _measured = [];

    /// <summary>Bytes read plus bytes written a second when <paramref name="bytes"/> are touched, rounded to a power of two from 64 KB to 512 MB.</summary>
    public double BytesPerSecond(long bytes)
    {
        long footprint = Math.Clamp((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)Math.Max(1, bytes)), Smallest, Largest);
        if (!_measured.TryGetValue(footprint, out double rate)) _measured.Add(footprint, rate = Measure(footprint));
        return rate;
    }

    private double Measure(long footprint)
    {
        using NativeBuffer buffer = new(footprint, clear: true);
        CopyJob job = new() { Source = buffer.Bytes, Half = footprint / 2, Threads = team.Threads, Repeats = (int)Math.Max(1, (8 << 20) / footprint) };
        double best = 0;
        for (int run = 0; run < 12; run++)
        {
            double start = CpuClock.Now(team.Threads);
            team.Run(ref job, team.Threads);
            double seconds = CpuClock.Now(team.Threads) - start;
            // The first run brings the pages in.
            if (run > 0 && seconds > 0) best = Math.Max(best, job.Repeats * (double)footprint / seconds);
        }
        return best;
    }

    private struct CopyJob : ITeamJob
    {
        public byte* Source;
        public long Half;
        public int Threads, Repeats;

        public readonly void Execute(int part, int worker)
        {
            long first = Half * part / Threads, bytes = (Half * (part + 1) / Threads) - first;
            for (int i = 0; i < Repeats; i++) Buffer.MemoryCopy(Source + first, Source + Half + first, bytes, bytes);
        }
    }
}
