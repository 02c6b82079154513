using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using CpuTopK = BgeMetal.Kernels.Cpu.TopK;
using LinearCrossEntropy = BgeMetal.Kernels.Cuda.LinearCrossEntropy;
using TopK = BgeMetal.Kernels.Cuda.TopK;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The masked-LM loss and exact search at a model's own sizes, where only a GPU is fast enough.</summary>
[Collection("gpu")]
public sealed class VocabularyScaleTests(GpuFixture fixture)
{
    private const int Rows = 1000, Dim = 384, Vocabulary = 30522;

    [CudaFact]
    public void The_tensor_cores_loss_and_gradients_are_the_exact_ones_but_for_rounding()
    {
        CudaDevice device = fixture.DeviceOrSkip();
        using DeviceTensor<BF16> x = new(device, new RandomData(1).Uniform(Rows * Dim), Rows, Dim), weight = new(device, new RandomData(2).Uniform(Vocabulary * Dim, 0.2), Vocabulary, Dim);
        (float loss, float[] dx, float[] dWeight) = Run(device, x, weight, 1L << 26);
        (float pieceLoss, float[] pieceDx, float[] pieceDWeight) = Run(device, x, weight, LinearCrossEntropy.MinimumWorkspace<BF16>(new(Rows, Dim, Vocabulary)));
        using DeviceTensor<FP32> exactX = new(device, x.ToDoubles(), Rows, Dim), exactWeight = new(device, weight.ToDoubles(), Vocabulary, Dim);
        (float exactLoss, float[] exactDx, float[] exactDWeight) = Run(device, exactX, exactWeight, 1L << 26);
        Assert.Equal(exactLoss, loss, 1e-5 * exactLoss);
        Tolerance.AssertNorm(dx, Doubles(exactDx), 4e-3, "dx");
        Tolerance.AssertNorm(dWeight, Doubles(exactDWeight), 4e-3, "dweight");
        Assert.Equal(loss, pieceLoss, 1e-6 * loss);
        Tolerance.AssertNorm(pieceDx, Doubles(dx), 4e-3, "dx in pieces");
        Tolerance.AssertNorm(pieceDWeight, Doubles(dWeight), 1e-5, "dweight in pieces");
    }

    [CudaFact]
    public void Searches_find_what_the_processor_finds()
    {
        Search<BF16>(1, 100);
        Search<BF16>(300, 200);
        Search<FP32>(1, 10);
        Search<FP16>(33, TopK.MaximumNeighbours);
    }

    private unsafe void Search<T>(int queries, int neighbours) where T : unmanaged, IElement
    {
        (int rows, int dim) = (200_003, 64);
        CudaDevice device = fixture.DeviceOrSkip();
        using DeviceTensor<T> q = new(device, new RandomData(3).Integers(queries * dim, 2), queries, dim), c = new(device, new RandomData(4).Integers(rows * dim, 2), rows, dim);
        using DeviceTensor<FP32> work = new(device, 1, 1 << 26, padding: 0), scores = new(device, queries, neighbours, padding: 0);
        TopKShape shape = new(queries, dim, neighbours);
        using DeviceMemory state = device.Allocate(TopK.StateLength(shape) * 8), found = device.Allocate(queries * neighbours * 8L);
        TopK.Begin(device, shape, new(state.Address));
        TopK.Add(device, shape, q.Matrix, c.Matrix, rows, 0, new(state.Address), new(work.Start, 1 << 26));
        TopK.Finish(device, shape, new(state.Address), new(found.Address), scores.Start);
        long[] indices = new long[queries * neighbours], expected = new long[queries * neighbours];
        device.Download(new DevicePointer<long>(found.Address), indices.AsSpan());
        float[] expectedScores = new float[queries * neighbours];
        fixed (float* query = q.ToArray(), corpus = c.ToArray(), best = expectedScores)
        fixed (long* index = expected)
            CpuTopK.Search(WorkerTeam.Single, query, dim, queries, dim, corpus, dim, rows, neighbours, index, best);
        Assert.Equal(expected, indices);
        Assert.Equal(expectedScores, scores.ToArray());
    }

    private static (float Loss, float[] Dx, float[] DWeight) Run<T>(CudaDevice device, DeviceTensor<T> x, DeviceTensor<T> weight, long workspaceLength) where T : unmanaged, IElement
    {
        using DeviceTensor<T> bias = new(device, new RandomData(5).Integers(Vocabulary, 1), 1, Vocabulary), dx = new(device, Rows, Dim);
        using DeviceTensor<FP32> rowLoss = new(device, 1, Rows), logSumExp = new(device, 1, Rows), result = new(device, 1, 2), work = new(device, 1, (int)workspaceLength, padding: 0),
            dWeight = new(device, new double[Vocabulary * Dim], Vocabulary, Dim), dBias = new(device, new double[Vocabulary], 1, Vocabulary);
        using DeviceMemory labels = device.Allocate(Rows * 4L);
        device.Upload<int>(new RandomData(6).Indices(Rows, Vocabulary), new(labels.Address));
        LinearCrossEntropyShape shape = new(Rows, Dim, Vocabulary);
        Workspace workspace = new(work.Start, workspaceLength);
        LinearCrossEntropy.Forward(device, shape, x.Matrix, weight.Matrix, bias.Start, new(labels.Address), rowLoss.Start, logSumExp.Start, result.Start, workspace);
        LinearCrossEntropy.Backward(device, shape, x.Matrix, weight.Matrix, bias.Start, new(labels.Address), logSumExp.Start, result.Start, default,
            dx.Matrix, accumulateDx: false, dWeight.Matrix, dBias.Start, workspace);
        return (result.ToArray()[LinearCrossEntropy.MeanIndex], dx.ToArray(), dWeight.ToArray());
    }

    private static double[] Doubles(float[] values) => [.. values.Select(v => (double)v)];
}
