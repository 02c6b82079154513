using System.Globalization;

namespace BgeMetal.Benchmarks.Timing;

/// <summary>
/// The peak of this process's own memory, without pages of mapped files, which the system takes back when it needs them: looked at every few milliseconds, on Linux; unknown
/// elsewhere.
/// </summary>
internal sealed class AnonymousMemory : IDisposable
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(10);
    private readonly CancellationTokenSource stop = new();
    private readonly long? before;
    private readonly Thread watch;
    private long peak;

    private AnonymousMemory()
    {
        before = Read();
        peak = before ?? 0;
        watch = new Thread(() =>
        {
            while (before is not null && !stop.Token.WaitHandle.WaitOne(s_interval))
                peak = Math.Max(peak, Read() ?? 0);
        })
        { IsBackground = true };
        watch.Start();
    }

    /// <summary>Begins to watch.</summary>
    public static AnonymousMemory Start() => new();

    /// <summary>The peak so far, less what there was at the start, in bytes; null where the system does not tell.</summary>
    public long? GrowthBytes() => before is long start ? Math.Max(peak, Read() ?? 0) - start : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        stop.Cancel();
        watch.Join();
        stop.Dispose();
    }

    private static long? Read()
    {
        if (!File.Exists("/proc/self/status"))
            return null;
        string? line = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith("RssAnon:", StringComparison.Ordinal));
        return line is null ? null : 1024 * long.Parse(line.AsSpan("RssAnon:".Length).TrimEnd("kB ").Trim(), CultureInfo.InvariantCulture);
    }
}
