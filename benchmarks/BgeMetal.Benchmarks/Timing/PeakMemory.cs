using System.Globalization;

namespace BgeMetal.Benchmarks.Timing;

/// <summary>
/// The peak of this process's resident memory between two moments, on Linux (the kernel's high-water mark, reset through /proc/self/clear_refs); unknown elsewhere.
/// </summary>
internal sealed class PeakMemory
{
    private readonly long? before;

    private PeakMemory(long? before) => this.before = before;

    /// <summary>Collects garbage, resets the mark and begins.</summary>
    public static PeakMemory Start()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        try
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
            return new(Read("VmRSS:"));
        }
        catch (Exception unsupported) when (unsupported is IOException or UnauthorizedAccessException)
        {
            return new(null);
        }
    }

    /// <summary>The mark now, less what was resident at the start, in bytes; null where the system does not tell.</summary>
    public long? GrowthBytes() => before is long start && Read("VmHWM:") is long peak ? peak - start : null;

    private static long? Read(string key)
    {
        string? line = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith(key, StringComparison.Ordinal));
        return line is null ? null : 1024 * long.Parse(line.AsSpan(key.Length).TrimEnd("kB ").Trim(), CultureInfo.InvariantCulture);
    }
}
