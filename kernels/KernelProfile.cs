namespace BgeMetal.Kernels;

/// <summary>What one kernel has taken.</summary>
/// <param name="Name">The kernel.</param>
/// <param name="Launches">How often it ran.</param>
/// <param name="Microseconds">The time of all runs together: the GPU's own, or the CPU's from the start of a run to its end, added up over threads that run kernels side by side.</param>
public readonly record struct KernelTime(string Name, long Launches, double Microseconds);

/// <summary>Adds up the time of kernels. Thread-safe.</summary>
public sealed class KernelProfile
{
    private readonly Dictionary<string, (long Launches, double Microseconds)> _times = new(StringComparer.Ordinal);
    private readonly Lock _gate = new();

    /// <summary>What was measured so far, the longest first.</summary>
    public IReadOnlyList<KernelTime> Times
    {
        get
        {
            lock (_gate)
                return [.. _times.Select(pair => new KernelTime(pair.Key, pair.Value.Launches, pair.Value.Microseconds))
                    .OrderByDescending(time => time.Microseconds).ThenBy(time => time.Name, StringComparer.Ordinal)];
        }
    }

    internal void Add(string name, double microseconds)
    {
        lock (_gate)
        {
            (long launches, double sum) = _times.GetValueOrDefault(name);
            _times[name] = (launches + 1, sum + microseconds);
        }
    }
}
