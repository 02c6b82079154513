namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// A place in a device's stream that the host can wait for, without waiting for what was enqueued behind it. Where kernels run at once, as on an emulated
/// device, there is nothing to wait for.
/// </summary>
public sealed unsafe class DeviceFence : IDisposable
{
    private const int DisableTiming = 2;
    private readonly CudaDevice? _gpu;
    private nint _event;

    /// <summary>Makes a fence, passed already.</summary>
    public DeviceFence(KernelDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device is not CudaDevice gpu) return;
        _gpu = gpu;
        gpu.Bind();
        nint created = 0;
        gpu.Api.Check(gpu.Api.cuEventCreate(&created, DisableTiming), "create a fence");
        _event = created;
    }

    /// <summary>Moves the fence behind everything that is enqueued so far.</summary>
    public void Set()
    {
        if (_gpu is null) return;
        _gpu.Bind();
        _gpu.Api.Check(_gpu.Api.cuEventRecord(_event, _gpu.Stream), "set a fence");
    }

    /// <summary>Waits until the device has come to the fence.</summary>
    /// <exception cref="DeviceException">A kernel failed.</exception>
    public void Wait()
    {
        if (_gpu is null) return;
        _gpu.Bind();
        _gpu.Api.Check(_gpu.Api.cuEventSynchronize(_event), "wait for a fence");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        nint created = Interlocked.Exchange(ref _event, 0);
        if (created == 0 || _gpu!.IsDisposed) return;
        _gpu.Bind();
        _gpu.Api.cuEventDestroy(created);
    }
}
