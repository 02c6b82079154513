using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Products of integers by every family of kernels (small and large tiles of mma.sync, both of warp groups, multiply-adds; whole and split along the depth) under every epilogue: sums of integers
/// are exact in any order, so that all families must leave the same bits.
/// </summary>
internal sealed class PtxProductFamilies(PtxDevice device)
{
    private const int M = 24, N = 40, K = 72, SplitDepth = 64, Splits = 2;

    private static DeviceScalar Half => new(0.5f);

    /// <summary>All epilogues of a type.</summary>
    public void Run<T>() where T : unmanaged, IElement
    {
        RandomData data = new(5);
        using DeviceTensor<T> other = new(device, data.Uniform(M * N), M, N), bias = new(device, data.Uniform(N), 1, N);
        using DeviceTensor<FP32> logSumExp = new(device, data.Uniform(M), 1, M, padding: 0);
        Agree<T, Nt, LinearOutput<T>, T>(y => new(y.Matrix, bias.Start, other.Matrix));
        Agree<T, Nt, TanhOutput<T>, T>(y => new(y.Matrix, bias.Start));
        Agree<T, Nt, GeluOutput<T>, T>(y => new(y.Matrix, bias.Start, default));
        Agree<T, Nt, ScaledOutput<FP32>, FP32>(y => new(y.Matrix, Half, accumulate: false), canSplit: false);
        Agree<T, Nt, ContrastiveWeights<T>, T>(y => new(y.Matrix, logSumExp.Start, new(default, 1, 0), 0.01f), canSplit: false);
        Agree<T, Nn, GradientOutput<T>, T>(y => new(y.Matrix, accumulate: true));
        Agree<T, Nn, GeluGradientOutput<T>, T>(y => new(y.Matrix, other.Matrix));
        Agree<T, Nn, SummedGradientOutput<T>, T>(y => new(default, first: true, last: true, Half, y.Matrix, accumulate: true));
        Agree<T, Tn, WeightGradientOutput, FP32>(y => new(y.Matrix));
        Agree<T, Tn, ScaledOutput<T>, T>(y => new(y.Matrix, Half, accumulate: true));
    }

    private void Agree<T, TForm, TEpilogue, TOut>(Func<DeviceTensor<TOut>, TEpilogue> epilogue, bool canSplit = true)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue where TOut : unmanaged, IElement
    {
        RandomData data = new(6);
        (int aRows, int aColumns) = TForm.AkContiguous ? (M, K) : (K, M);
        (int bRows, int bColumns) = TForm.BkContiguous ? (N, K) : (K, N);
        using DeviceTensor<T> a = new(device, data.Integers(M * K, 2), aRows, aColumns), b = new(device, data.Integers(N * K, 1), bRows, bColumns);
        using DeviceTensor<FP32> work = new(device, Splits * M, N, padding: 0);
        double[] before = data.Uniform(M * N);
        float[]? first = null;
        GemmPlan exact = new(device, TensorCores: false, LargeTile: true, Splits: 1, SplitDepth: (K + 63) / 64 * 64, A: a.Start.Address, B: b.Start.Address, StrideA: a.Stride, StrideB: b.Stride,
            M, N, K, work.Start);
        foreach (GemmPlan plan in T.SizeShift == 2 ? [exact] : Families(exact))
            for (int split = 0; split < (canSplit && (plan.TensorCores || T.SizeShift == 2) ? 2 : 1); split++)
            {
                using DeviceTensor<TOut> y = new(device, before, M, N);
                (split == 0 ? plan : plan with { Splits = Splits, SplitDepth = SplitDepth }).Run<T, TForm, TEpilogue>(epilogue(y));
                first ??= y.ToArray();
                Tolerance.AssertBitEqual(y.ToArray(), first, $"{typeof(TEpilogue)} of {plan}");
            }
    }

    private static GemmPlan[] Families(GemmPlan exact)
    {
        GemmPlan small = exact with { TensorCores = true, LargeTile = false };
        return [exact, small, small with { LargeTile = true }, small with { WarpGroups = WarpGroupTiling.Tile128 }, small with { WarpGroups = WarpGroupTiling.Tile256 },
            small with { WarpGroups = WarpGroupTiling.Pair128 }];
    }
}
