namespace BgeMetal.Retrieval;

/// <summary>Where and how precisely to compute.</summary>
public sealed record ComputeOptions
{
    /// <summary><c>auto</c> (a GPU where there is one, else the CPU), <c>cpu</c>, <c>cuda</c> or <c>cuda:N</c>.</summary>
    public string Device { get; init; } = "auto";

    /// <summary><c>auto</c> or <c>fp32</c> on the CPU.</summary>
    public string DType { get; init; } = "auto";

    /// <summary>CPU threads; 0 means one a core. The number never changes a result.</summary>
    public int Threads { get; init; }

    /// <summary>The number of threads that will be used.</summary>
    internal int EffectiveThreads => Threads > 0 ? Threads : Environment.ProcessorCount;

    /// <summary>The device; the caller disposes it.</summary>
    internal Tensors.Device OpenDevice() => Tensors.Device.CpuThreads(EffectiveThreads);

    /// <summary>Refuses what cannot be had here, with the reason.</summary>
    /// <exception cref="BgeMetalException">The device or the precision is unknown or not available.</exception>
    internal void Validate()
    {
        if (Threads is < 0 or > 1024) throw new BgeMetalException("option --threads", $"{Threads} is out of range, expected 0 (one a core) to 1024");
        if (Device is not ("auto" or "cpu"))
            throw Device == "cuda" || Device.StartsWith("cuda:", StringComparison.Ordinal)
                ? new BgeMetalException($"device '{Device}'", "this build computes on the CPU only; use --device cpu")
                : new BgeMetalException($"device '{Device}'", "expected auto, cpu, cuda or cuda:N");
        if (DType is not ("auto" or "fp32"))
            throw DType is "bf16" or "fp16"
                ? new BgeMetalException($"dtype '{DType}'", "the CPU computes in fp32 only; use --dtype fp32")
                : new BgeMetalException($"dtype '{DType}'", "expected auto, fp32, bf16 or fp16");
    }
}
