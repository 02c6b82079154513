namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// The GPU's own time of launches, by an event before and one behind each, which are read when the stream has passed them: nothing waits, and nothing else
/// is between the two.
/// </summary>
internal sealed unsafe class LaunchTimes(CudaDevice device) : IDisposable
{
    private readonly Stack<nint> _free = [];
    private readonly Queue<(string Name, nint Start, nint Stop)> _pending = [];
    private nint _start;

    /// <summary>Before a launch.</summary>
    public void Begin() => _start = Mark();

    /// <summary>Behind it.</summary>
    public void End(string name) => _pending.Enqueue((name, _start, Mark()));

    /// <summary>Reads everything that was measured; the stream must have passed it.</summary>
    public void Collect(KernelProfile profile)
    {
        while (_pending.TryDequeue(out (string Name, nint Start, nint Stop) launch))
        {
            float milliseconds = 0;
            device.Api.Check(device.Api.cuEventElapsedTime(&milliseconds, launch.Start, launch.Stop), "read a kernel's time");
            profile.Add(launch.Name, milliseconds * 1e3);
            _free.Push(launch.Start);
            _free.Push(launch.Stop);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((string _, nint start, nint stop) in _pending)
        {
            device.Api.cuEventDestroy(start);
            device.Api.cuEventDestroy(stop);
        }
        while (_free.TryPop(out nint mark)) device.Api.cuEventDestroy(mark);
        _pending.Clear();
    }

    private nint Mark()
    {
        if (!_free.TryPop(out nint mark)) device.Api.Check(device.Api.cuEventCreate(&mark, 0), "create a timer");
        device.Api.Check(device.Api.cuEventRecord(mark, device.Stream), "record a timer");
        return mark;
    }
}
