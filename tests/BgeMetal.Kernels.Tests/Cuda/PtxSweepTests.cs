using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Every registered kernel, interpreted under <see cref="PtxChecks"/>, with a workspace that nobody wrote: what the numbers are is checked elsewhere, here that nothing races, uses what was never
/// written or leaves its memory.
/// </summary>
public sealed class PtxSweepTests
{
    private const long Ample = 1 << 26, WorkspaceLength = 1 << 16;

    // Tensor cores; whatever is odd; the widest heads.
    private static readonly string[] s_shapes =
    [
        "T=5 K=16 N=24 D=16 U=3 B=2 L=3 H=2 Dh=8 G=2 V=10 W=2 P=40",
        "T=5 K=9 N=11 D=13 U=3 B=3 L=3 H=1 Dh=40 G=2 V=11 W=2 P=41",
        "T=3 K=8 N=8 D=8 U=3 B=2 L=3 H=1 Dh=72 G=2 V=8 W=2 P=8",
    ];

    private static readonly (string Stem, string Shape)[] s_largeTiles =
    [
        ("BagOfWords", "B=1 L=65 D=8 V=8 W=2"), ("LinearCrossEntropy", "T=65 U=65 D=8 V=72"), ("TopK", "B=65 N=72 D=8"),
    ];

    // Of one turn, of several.
    private static readonly string[] s_sequences =
    [
        "B=2 L=20 H=1 Dh=32", "B=2 L=20 H=1 Dh=64", "B=1 L=65 H=1 Dh=32", "B=1 L=65 H=1 Dh=64", "B=1 L=130 H=1 Dh=32", "B=1 L=130 H=1 Dh=64",
    ];

    [Fact]
    public void Every_kernel_keeps_the_rules()
    {
        HashSet<string> launched = [];
        using (PtxDevice device = new(1))
        {
            Sweep(device, launched, "", s_shapes);
            foreach ((string stem, string shape) in s_largeTiles) Sweep(device, launched, stem, shape);
        }
        using (PtxDevice device = new(64)) Sweep(device, launched, "", s_shapes[0]);
        using (PtxDevice device = new(2, hasWarpGroups: true))
        {
            PtxProductFamilies products = new(device);
            products.Run<BF16>();
            products.Run<FP16>();
            products.Run<FP32>();
            foreach (string shape in s_sequences) Sweep(device, launched, "Attention", shape);
            FewQueries<BF16>(device);
            FewQueries<FP16>(device);
            launched.UnionWith(device.Launched.Select(kernel => kernel.Name));
        }
        using (PtxDevice device = new(2))
        {
            Others<BF16>(device);
            Others<FP16>(device);
            Others<FP32>(device);
            launched.UnionWith(device.Launched.Select(kernel => kernel.Name));
        }
        string[] missing = [.. KernelRegistry.All.Select(kernel => kernel.Name).Except(launched).Order(StringComparer.Ordinal)];
        Assert.True(missing.Length == 0, $"never launched: {string.Join(", ", missing)}");
    }

    private static void Sweep(PtxDevice device, HashSet<string> launched, string stem, params string[] shapes)
    {
        BenchCase[] cases = [.. BenchTable.All.Where(op => op.Cuda is not null && op.Stem.StartsWith(stem, StringComparison.Ordinal))
            .SelectMany(op => op.CudaTypes.Where(type => !device.HasWarpGroups || type != DType.Float32).SelectMany(type => shapes.Select(shape => new BenchCase(op, new BenchShape(shape), type))))];
        RepeatResult[] results = [.. RepeatCheck.Run(device, cases, repeats: 0, Ample, WorkspaceLength)];
        Assert.All(results, result => Assert.True(result.IsGood && result.LeftOut.Length == 0, result.ToString()));
        launched.UnionWith(device.Launched.Select(kernel => kernel.Name));
    }

    private static void FewQueries<T>(PtxDevice device) where T : unmanaged, IElement
    {
        foreach (int headDim in new[] { 32, 64 })
            foreach (float dropout in new[] { 0f, 0.3f })
            {
                using AttentionProblem<T> problem = new(device, new(1, headDim, [2], [70]) { Dropout = dropout });
                problem.Forward();
            }
    }

    // What the bench has no case for.
    private static void Others<T>(PtxDevice device) where T : unmanaged, IElement
    {
        (int rows, int columns) = (6, 24);
        RandomData data = new(9);
        using DeviceTensor<T> x = new(device, data.Uniform(rows * columns), rows, columns), y = new(device, rows, columns), dx = new(device, rows, columns);
        using DeviceTensor<FP32> wide = new(device, data.Uniform(rows * columns), rows, columns), numbers = new(device, data.Uniform(rows * columns), 1, rows * columns), results = new(device, 1, 600);
        using DeviceMemory integers = device.Allocate(16);
        device.Upload<int>([0, 2, rows, 0], new(integers.Address));
        Pooling.Cls(device, x.Matrix, new(integers.Address), 2, columns, y.Matrix);
        Pooling.ClsBackward(device, x.Matrix, new(integers.Address), 2, columns, dx.Matrix);
        Linear.BackwardActivation(device, rows, columns, LinearActivation.Tanh, x.Matrix, x.Matrix, y.Matrix);
        AddScaled.Run(device, x.Matrix, rows, columns, 2f, accumulate: true, wide.Matrix);
        AddScaled.Run(device, wide.Matrix, rows, columns, 2f, accumulate: true, x.Matrix);
        KlDivergence.Forward(DistillationLoss.Staircase, device, x.Matrix, rows, columns, wide.Matrix, 4, 1, 1, results.Start, results.Start);
        KlDivergence.Backward(DistillationLoss.Staircase, device, x.Matrix, rows, columns, wide.Matrix, 4, 1, 1, 1f, dx.Matrix, accumulate: false);
        if (T.SizeShift == 1) Cast.Convert(device, x.Start, numbers.Start, columns);
        foreach (int hidden in new[] { columns, columns - 1 })
            LayerNorm.Backward(device, x.Matrix, x.Matrix, rows, hidden, x.Start, numbers.Start, numbers.Start, false, dx.Matrix, new(0.3f, new(integers.Address), 3, 0), y.Matrix,
                numbers.Start, new(numbers.Start.Address + (4L * hidden)), new(results.Start, 6L * hidden));
        PeakArguments peak = new() { Result = results.Start, Iterations = 1, Operand = 0x3f003f00 };
        if (T.SizeShift == 2) device.Launch(PeakKernels.MultiplyAdd, new GridSize(1), peak);
        else device.Launch(PeakKernels.TensorCores<T>, new GridSize(1), peak);
        if (T.SizeShift == 1) device.Launch(PeakKernels.WarpGroups<T>, new GridSize(1), peak);
    }
}
