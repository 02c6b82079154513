namespace BgeMetal.Kernels.Runtime;

/// <summary>A recorded sequence of launches and copies that replays with one call; it reads and writes the addresses it was recorded with.</summary>
public sealed unsafe class CudaGraph : IDisposable
{
    private readonly CudaDevice _device;
    private nint _executable;

    internal CudaGraph(CudaDevice device, nint graph)
    {
        _device = device;
        nint executable = 0;
        int result = device.Api.cuGraphInstantiate(&executable, graph, 0);
        device.Api.cuGraphDestroy(graph);
        device.Api.Check(result, "prepare a captured graph");
        _executable = executable;
    }

    /// <summary>Enqueues the sequence on the device's stream.</summary>
    /// <exception cref="ObjectDisposedException">The graph was disposed.</exception>
    public void Replay()
    {
        ObjectDisposedException.ThrowIf(_executable == 0, this);
        _device.Bind();
        _device.Api.Check(_device.Api.cuGraphLaunch(_executable, _device.Stream), "replay a graph");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        nint executable = Interlocked.Exchange(ref _executable, 0);
        if (executable == 0) return;
        _device.Bind();
        _device.Api.Check(_device.Api.cuGraphExecDestroy(executable), "free a graph");
    }
}
