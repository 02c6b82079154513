namespace BgeMetal.Kernels.Runtime;

/// <summary>A point of a device's stream that the host can wait for without waiting for what follows it.</summary>
public abstract class DeviceMark : IDisposable
{
    /// <summary>Moves the mark behind everything enqueued so far.</summary>
    public abstract void Record();

    /// <summary>Waits until the stream has passed the mark; a failure of an earlier kernel surfaces here.</summary>
    /// <exception cref="DeviceException">A kernel failed.</exception>
    public abstract void Wait();

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>An event without a time. Under a profile the wait is for the whole stream, so that the times of launches are read as they come.</summary>
internal sealed unsafe class CudaMark : DeviceMark
{
    private const int DisableTiming = 2;
    private readonly CudaDevice _device;
    private nint _event;

    public CudaMark(CudaDevice device)
    {
        _device = device;
        nint created = 0;
        device.Bind();
        device.Api.Check(device.Api.cuEventCreate(&created, DisableTiming), "create a mark");
        _event = created;
    }

    public override void Record()
    {
        ObjectDisposedException.ThrowIf(_event == 0, this);
        _device.Bind();
        _device.Api.Check(_device.Api.cuEventRecord(_event, _device.Stream), "set a mark");
    }

    public override void Wait()
    {
        ObjectDisposedException.ThrowIf(_event == 0, this);
        if (_device.Profile is not null)
        {
            _device.Synchronize();
            return;
        }
        _device.Bind();
        _device.Api.Check(_device.Api.cuEventSynchronize(_event), "finish the enqueued work");
    }

    public override void Dispose()
    {
        nint created = Interlocked.Exchange(ref _event, 0);
        if (created == 0 || _device.IsDisposed) return;
        _device.Bind();
        _device.Api.cuEventDestroy(created);
    }
}

/// <summary>Where kernels run at once there is nothing to wait for.</summary>
internal sealed class PassedMark : DeviceMark
{
    public override void Record()
    {
    }

    public override void Wait()
    {
    }

    public override void Dispose()
    {
    }
}
