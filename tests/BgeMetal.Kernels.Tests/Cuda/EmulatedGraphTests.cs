using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Graphs on the emulated device: the same contract as a GPU's, with results.</summary>
public sealed class EmulatedGraphTests
{
    [Fact]
    public void A_graph_runs_nothing_when_captured_and_reads_what_is_there_when_replayed()
    {
        using EmulatedDevice device = new(4);
        using DeviceMemory memory = device.Allocate(4096);
        DevicePointer<FP32> x = memory.Slice<FP32>(0, 8), y = memory.Slice<FP32>(1024, 8);
        device.Fill(memory.Address, 0, 4096);
        using DeviceGraph graph = device.Capture(() =>
        {
            NormalizeRows.Forward<FP32>(device, new(x, 8), 1, 8, new(y, 8));
            device.Copy(y.Address, memory.Address + 2048, 32);
        });
        Assert.All(Read(device, memory, 1024), value => Assert.Equal(0, value));
        foreach (float first in (float[])[3, 30])
        {
            device.Upload<float>([first, 4, 0, 0, 0, 0, 0, 0], memory.Slice<float>(0, 8));
            graph.Replay();
            float length = MathF.Sqrt((first * first) + 16);
            Assert.Equal(first / length, Read(device, memory, 1024)[0], 1e-6);
            Assert.Equal(Read(device, memory, 1024), Read(device, memory, 2048));
        }
        graph.Dispose();
        Assert.Throws<ObjectDisposedException>(graph.Replay);
    }

    [Fact]
    public void What_a_gpu_refuses_inside_a_capture_is_refused_and_the_device_stays_usable()
    {
        using EmulatedDevice device = new(4);
        foreach (Action refused in (Action[])[() => device.Allocate(8), () => device.AllocatePinned(8), device.Synchronize, () => device.Capture(() => { })])
            Assert.Throws<DeviceException>(() => device.Capture(refused));
        device.Synchronize();
        device.Profile = new KernelProfile();
        Assert.Throws<InvalidOperationException>(() => device.Capture(() => { }));
    }

    private static float[] Read(EmulatedDevice device, DeviceMemory memory, long offset)
    {
        float[] values = new float[8];
        device.Download(memory.Slice<float>(offset, 8), values.AsSpan());
        return values;
    }
}
