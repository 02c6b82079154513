using System.Diagnostics;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>Time on a device's stream: by events on a GPU, by the wall clock on the emulated device, which runs everything at once.</summary>
internal sealed class DeviceClock(KernelDevice device) : IDisposable
{
    private readonly DeviceTimer? _timer = device is CudaDevice gpu ? new DeviceTimer(gpu) : null;

    /// <summary>Microseconds of what <paramref name="enqueue"/> enqueues.</summary>
    public double TimeUs(Action enqueue)
    {
        if (_timer is null)
        {
            long start = Stopwatch.GetTimestamp();
            enqueue();
            device.Synchronize();
            return Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }
        _timer.Start();
        enqueue();
        _timer.Stop();
        return _timer.ElapsedUs();
    }

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();
}
