using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>One allocation of a device's memory, freed when disposed. Starts at a multiple of 64 bytes; contents are undefined.</summary>
internal sealed unsafe class DeviceBlock : IDisposable
{
    private readonly NativeBuffer? _host;
    private readonly DeviceMemory? _device;

    /// <summary>Host memory.</summary>
    public DeviceBlock(NativeBuffer host) => _host = host;

    /// <summary>Memory of a GPU or of its emulation.</summary>
    public DeviceBlock(DeviceMemory device) => _device = device;

    /// <summary>The first byte.</summary>
    public nint Address => _host is null ? (nint)_device!.Address : (nint)_host.Bytes;

    /// <summary>The size.</summary>
    public long SizeBytes => _host?.SizeBytes ?? _device!.SizeBytes;

    /// <inheritdoc/>
    public void Dispose()
    {
        _host?.Dispose();
        _device?.Dispose();
    }
}
