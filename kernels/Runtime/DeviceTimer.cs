namespace BgeMetal.Kernels.Runtime;

/// <summary>Measures the device's own time between two points of the stream; a host timer would see only the enqueueing.</summary>
public sealed unsafe class DeviceTimer : IDisposable
{
    private readonly CudaDevice _device;
    private readonly nint _start, _stop;
    private bool _disposed;

    /// <summary>Makes a timer of <paramref name="device"/>.</summary>
    public DeviceTimer(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _start = Create();
        _stop = Create();
    }

    /// <summary>Marks the beginning: everything enqueued from now on counts.</summary>
    public void Start() => Record(_start);

    /// <summary>Marks the end.</summary>
    public void Stop() => Record(_stop);

    /// <summary>Waits for the end and returns the time between the marks, in microseconds; the resolution is about half a microsecond.</summary>
    public double ElapsedUs()
    {
        _device.Bind();
        float milliseconds = 0;
        _device.Api.Check(_device.Api.cuEventSynchronize(_stop), "wait for a timer");
        _device.Api.Check(_device.Api.cuEventElapsedTime(&milliseconds, _start, _stop), "read a timer");
        return milliseconds * 1e3;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        if (_device.IsDisposed) return;
        _device.Bind();
        _device.Api.cuEventDestroy(_start);
        _device.Api.cuEventDestroy(_stop);
    }

    private void Record(nint mark)
    {
        _device.Bind();
        _device.Api.Check(_device.Api.cuEventRecord(mark, _device.Stream), "record a timer");
    }

    private nint Create()
    {
        _device.Bind();
        nint mark = 0;
        _device.Api.Check(_device.Api.cuEventCreate(&mark, 0), "create a timer");
        return mark;
    }
}
