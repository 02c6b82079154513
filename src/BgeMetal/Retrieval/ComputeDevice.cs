namespace BgeMetal.Retrieval;

/// <summary>Where a model computes.</summary>
/// <param name="Name">cpu, cuda:0, cuda:1, ...</param>
/// <param name="DType">fp32, bf16 or fp16.</param>
/// <param name="Hardware">What a GPU calls itself; empty for the CPU.</param>
/// <param name="Remark">Why it is not the GPU that is there; empty otherwise.</param>
public sealed record ComputeDevice(string Name, string DType, string Hardware, string Remark)
{
    /// <summary>Whether it is a GPU.</summary>
    public bool IsGpu => Hardware.Length > 0;

    /// <inheritdoc/>
    public override string ToString() => IsGpu ? $"{Name} ({Hardware}, {DType})" : Name;

    /// <summary>What users are told of a device.</summary>
    internal static ComputeDevice Of(Tensors.Device device) => new(device.Name, device.DType switch
    {
        Kernels.DType.BFloat16 => "bf16",
        Kernels.DType.Float16 => "fp16",
        _ => "fp32",
    }, device.Hardware, device.Remark);
}
