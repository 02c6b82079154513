using System.Diagnostics;
using System.Runtime.InteropServices;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// Seconds for a measurement. With one thread on Linux it is the thread's own processor time, which other processes on a busy machine disturb far less
/// than the wall clock; with a team it is the wall clock.
/// </summary>
internal static unsafe partial class CpuClock
{
    private const int ThreadCpuTime = 3;

    /// <summary>Now, from an arbitrary start.</summary>
    public static double Now(int threads)
    {
        if (threads > 1 || !OperatingSystem.IsLinux()) return (double)Stopwatch.GetTimestamp() / Stopwatch.Frequency;
        long* time = stackalloc long[2];
        _ = GetTime(ThreadCpuTime, time);
        return time[0] + (time[1] * 1e-9);
    }

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int GetTime(int clock, long* time);
}
