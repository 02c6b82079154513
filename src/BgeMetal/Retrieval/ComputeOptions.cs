using System.Globalization;
using System.Text.Json.Serialization;

namespace BgeMetal.Retrieval;

/// <summary>Where and how precisely to compute.</summary>
public sealed record ComputeOptions
{
    private const string Cpu = "cpu", Cuda = "cuda", DeviceVariable = "BGEMETAL_DEVICE";

    /// <summary>
    /// <c>auto</c> (what the environment variable BGEMETAL_DEVICE names, else a GPU where there is one that can be used, else the CPU), <c>cpu</c>, <c>cuda</c> or <c>cuda:N</c>.
    /// </summary>
    public string Device { get; init; } = "auto";

    /// <summary><c>auto</c> (bf16 on a GPU, fp32 on the CPU), <c>fp32</c>, <c>bf16</c> or <c>fp16</c>; the CPU has fp32 only.</summary>
    public string DType { get; init; } = "auto";

    /// <summary>CPU threads; 0 means one a core. The number never changes a result.</summary>
    public int Threads { get; init; }

    /// <summary>Whether the time of every kernel is taken, which costs a little time itself.</summary>
    [JsonIgnore]
    public bool Profile { get; init; }

    /// <summary>The names of this machine's GPUs in the driver's order; empty without a driver.</summary>
    public static IReadOnlyList<string> Gpus => Tensors.Device.Gpus();

    /// <summary>Whether a GPU will be used, as far as can be told without opening it.</summary>
    [JsonIgnore]
    public bool UsesGpu => Wanted() is { } device && (device.StartsWith(Cuda, StringComparison.Ordinal) || (device == "auto" && Gpus.Count > 0));

    /// <summary>Opens another device than the options name: an emulated GPU in tests. Null for those named.</summary>
    internal Func<Tensors.Device>? Opener { get; init; }

    /// <summary>The name of the GPU that will be used; null for none.</summary>
    [JsonIgnore]
    public string? Gpu => UsesGpu ? Gpus.ElementAtOrDefault(Index) : null;

    /// <summary>The number of threads that will be used.</summary>
    internal int EffectiveThreads => Threads > 0 ? Threads : Environment.ProcessorCount;

    /// <summary>Opens the device; the caller disposes it. With <c>auto</c> a GPU that cannot be used leaves the CPU, which says why.</summary>
    /// <exception cref="BgeMetalException">The device or the precision is unknown or not available.</exception>
    internal Tensors.Device OpenDevice()
    {
        Tensors.Device device = Open();
        if (Profile) device.StartProfile();
        return device;
    }

    private Tensors.Device Open()
    {
        if (Opener is not null) return Opener();
        Validate();
        string device = Wanted();
        if (!UsesGpu) return OpenCpu();
        if (device != "auto") return OpenGpu(Index);
        try
        {
            return OpenGpu(0);
        }
        catch (BgeMetalException e) when (DType is "auto" or "fp32")
        {
            return Tensors.Device.CpuThreads(EffectiveThreads, remark: e.Message);
        }
    }

    /// <summary>Refuses what is out of range, with the reason.</summary>
    /// <exception cref="BgeMetalException">The device or the precision is unknown.</exception>
    internal void Validate()
    {
        if (Threads is < 0 or > 1024) throw new BgeMetalException("option --threads", $"{Threads} is out of range, expected 0 (one a core) to 1024");
        string device = Wanted();
        if (device is not ("auto" or Cpu or Cuda)
            && !(device.StartsWith(Cuda + ":", StringComparison.Ordinal) && int.TryParse(device.AsSpan(Cuda.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out _)))
            throw new BgeMetalException($"device '{device}'", "expected auto, cpu, cuda or cuda:N");
        if (DType is not ("auto" or "fp32" or "bf16" or "fp16")) throw new BgeMetalException($"dtype '{DType}'", "expected auto, fp32, bf16 or fp16");
        if (DType is "bf16" or "fp16" && !UsesGpu) throw new BgeMetalException($"dtype '{DType}'", "the CPU computes in fp32 only; use --dtype fp32");
    }

    private string Wanted() => Device == "auto" && Environment.GetEnvironmentVariable(DeviceVariable) is { Length: > 0 } named ? named : Device;

    /// <summary>The GPU's number in the driver's order.</summary>
    private int Index => int.TryParse(Wanted().Split(':')[^1], NumberStyles.None, CultureInfo.InvariantCulture, out int index) ? index : 0;

    private Tensors.Device OpenCpu() => Tensors.Device.CpuThreads(EffectiveThreads);

    private Tensors.Device OpenGpu(int index) => Tensors.Device.OpenCuda(index, DType switch
    {
        "fp32" => Kernels.DType.Float32,
        "fp16" => Kernels.DType.Float16,
        _ => Kernels.DType.BFloat16,
    }, EffectiveThreads);
}
