namespace BgeMetal.Kernels.Runtime;

/// <summary>A recorded sequence of launches and copies that replays with one call; it reads and writes the addresses it was recorded with.</summary>
public abstract class DeviceGraph : IDisposable
{
    /// <summary>Enqueues the sequence on the device's stream.</summary>
    /// <exception cref="ObjectDisposedException">The graph was disposed.</exception>
    public abstract void Replay();

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A graph of the CUDA driver.</summary>
internal sealed unsafe class CudaGraph : DeviceGraph
{
    private readonly CudaDevice _device;
    private nint _executable;

    public CudaGraph(CudaDevice device, nint graph)
    {
        _device = device;
        nint executable = 0;
        int result = device.Api.cuGraphInstantiate(&executable, graph, 0);
        device.Api.cuGraphDestroy(graph);
        device.Api.Check(result, "prepare a captured graph");
        _executable = executable;
    }

    public override void Replay()
    {
        ObjectDisposedException.ThrowIf(_executable == 0, this);
        _device.Bind();
        _device.Api.Check(_device.Api.cuGraphLaunch(_executable, _device.Stream), "replay a graph");
    }

    public override void Dispose()
    {
        nint executable = Interlocked.Exchange(ref _executable, 0);
        if (executable == 0 || _device.IsDisposed) return;
        _device.Bind();
        _device.Api.Check(_device.Api.cuGraphExecDestroy(executable), "free a graph");
    }
}

/// <summary>What the emulated device was asked for, with the argument bytes of every launch, to be done again in order.</summary>
internal sealed class EmulatedGraph(IReadOnlyList<Action> steps) : DeviceGraph
{
    private IReadOnlyList<Action>? _steps = steps;

    public override void Replay()
    {
        ObjectDisposedException.ThrowIf(_steps is null, this);
        foreach (Action step in _steps) step();
    }

    public override void Dispose() => _steps = null;
}
