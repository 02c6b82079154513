using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>At an encoder's own sizes, where only a GPU is fast enough: the tensor cores against the exact kernels, bit for bit on integers.</summary>
[Collection("gpu")]
public sealed class GpuScaleTests(GpuFixture fixture)
{
    private const int Rows = 2049, Inputs = 768, Outputs = 3072;

    [CudaFact]
    public void Tensor_cores_and_exact_kernels_agree_on_integers_in_all_three_forms()
    {
        CudaDevice device = fixture.DeviceOrSkip();
        RandomData data = new(1);
        double[] x = data.Integers(Rows * Inputs, 2), w = data.Integers(Outputs * Inputs, 2), dy = data.Integers(Rows * Outputs, 2);
        (float[] y, float[] dx, float[] dw) = Products<FP32>(device, x, w, dy);
        (float[] lowY, float[] lowDx, float[] lowDw) = Products<BF16>(device, x, w, dy);
        Tolerance.AssertBitEqual(lowDw, dw, "dw");
        Tolerance.AssertBitEqual(lowY, [.. y.Select(v => BF16.FromBits(BF16.ToBits(v)))], "y");
        Tolerance.AssertBitEqual(lowDx, [.. dx.Select(v => BF16.FromBits(BF16.ToBits(v)))], "dx");
    }

    [CudaFact]
    public void A_replayed_graph_repeats_the_launch()
    {
        CudaDevice device = fixture.DeviceOrSkip();
        using DeviceTensor<FP32> source = new(device, new RandomData(2).Uniform(5000), 1, 5000);
        using DeviceTensor<BF16> target = new(device, 1, 5000), expected = new(device, 1, 5000);
        Cast.Convert(device, source.Start, expected.Start, 5000);
        using DeviceGraph graph = device.Capture(() => Cast.Convert(device, source.Start, target.Start, 5000));
        graph.Replay();
        Tolerance.AssertBitEqual(target.ToArray(), expected.ToArray());
    }

    [CudaFact]
    public void All_kernels_load()
    {
        CudaDevice device = fixture.DeviceOrSkip();
        device.Prepare(KernelRegistry.All);
        device.Synchronize();
    }

    private static (float[] Y, float[] Dx, float[] Dw) Products<T>(CudaDevice device, double[] x, double[] w, double[] dy) where T : unmanaged, IElement
    {
        using DeviceTensor<T> xs = new(device, x, Rows, Inputs), ws = new(device, w, Outputs, Inputs), dys = new(device, dy, Rows, Outputs),
            y = new(device, Rows, Outputs), dx = new(device, Rows, Inputs);
        using DeviceTensor<FP32> dw = new(device, new double[Outputs * Inputs], Outputs, Inputs), work = new(device, 1, 1 << 24);
        Workspace workspace = new(work.Start, 1 << 24);
        LinearShape shape = new(Rows, Inputs, Outputs);
        Linear.Forward(device, shape, xs.Matrix, ws.Matrix, default, LinearActivation.None, default, default, y.Matrix, workspace);
        Linear.BackwardInput(device, shape, dys.Matrix, ws.Matrix, default, accumulate: false, dx.Matrix, workspace);
        Linear.BackwardWeight(device, shape, dys.Matrix, xs.Matrix, dw.Matrix, workspace);
        return (y.ToArray(), dx.ToArray(), dw.ToArray());
    }
}
