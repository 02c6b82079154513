using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>Where tensors live and operations run.</summary>
internal enum DeviceKind
{
    /// <summary>Host memory, managed SIMD kernels.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU through ILGPU.</summary>
    Cuda,
}

/// <summary>
/// A place to compute. On the CPU it names the team of threads that splits each operation: a team of one runs everything inline, which is how
/// many texts are embedded (one text chunk a thread); a larger team splits inside each operation, which is how a single text is embedded.
/// </summary>
internal sealed class Device : IDisposable
{
    private Device(DeviceKind kind, WorkerTeam team)
    {
        Kind = kind;
        Team = team;
    }

    /// <summary>The CPU, every operation on the calling thread.</summary>
    public static Device SingleThread { get; } = new(DeviceKind.Cpu, WorkerTeam.Single);

    /// <summary>The kind of device, on which an operation branches.</summary>
    public DeviceKind Kind { get; }

    /// <summary>The threads that share one operation (CPU only).</summary>
    public WorkerTeam Team { get; }

    /// <summary>The CPU with operations split over <paramref name="team"/>, which the caller owns.</summary>
    public static Device Cpu(WorkerTeam team) => new(DeviceKind.Cpu, team);

    /// <summary>The CPU with operations split over so many threads, which live until the device is disposed.</summary>
    public static Device CpuThreads(int threads) => new(DeviceKind.Cpu, new WorkerTeam(threads));

    /// <summary>Ends the threads. Harmless on a device of one thread.</summary>
    public void Dispose() => Team.Dispose();

    /// <inheritdoc/>
    public override string ToString() => Kind == DeviceKind.Cpu ? $"cpu ({Team.Threads} threads)" : "cuda";
}
