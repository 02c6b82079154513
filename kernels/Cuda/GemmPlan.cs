using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>How one matrix product runs: which kernel, which tile, and how often its depth is split.</summary>
internal readonly record struct GemmPlan(KernelDevice Device, bool TensorCores, bool LargeTile, int Splits, int SplitDepth,
    long A, long B, int StrideA, int StrideB, int M, int N, int K, DevicePointer<FP32> Workspace)
{
    // A split shorter than this spends more time on partial sums than it saves.
    private const int MinimumSplitDepth = 256;

    /// <summary>Rows and columns of a block's tile.</summary>
    public int Block => LargeTile ? 128 : 64;

    /// <summary>
    /// Prefers the large tile where it fills the device, splitting the depth if need be; otherwise the small tile. Two blocks share a
    /// multiprocessor, so a product is worth splitting until there are twice as many blocks as multiprocessors. With <paramref name="paddedA"/> the stored rows
    /// of A are zero up to the next multiple of 8 elements, so that their length may be anything.
    /// </summary>
    public static GemmPlan Choose<T, TForm>(KernelDevice device, int m, int n, int k, DeviceMatrix<T> a, DeviceMatrix<T> b, Workspace workspace, bool paddedA = false)
        where T : unmanaged, IElement where TForm : struct, IForm
    {
        bool tensorCores = T.SizeShift == 1 && a.IsAligned && b.IsAligned
            && (paddedA || ((TForm.AkContiguous ? k : m) & 7) == 0) && ((TForm.BkContiguous ? k : n) & 7) == 0
            && device.SharedMemoryPerBlock >= Tile64.SharedBytes;
        long largeBlocks = Blocks(m, n, 128), smallBlocks = Blocks(m, n, 64);
        // Half-precision products without tensor cores are not split: they are rare and small.
        long mostSplits = T.SizeShift == 1 && !tensorCores ? 1 : Math.Clamp(Math.Min(k / MinimumSplitDepth, workspace.Length / ((long)m * n)), 1, 64);
        bool large = !tensorCores || (device.SharedMemoryPerBlock >= Tile128.SharedBytes && Math.Min(m, n) > 64 && largeBlocks * mostSplits >= device.MultiProcessors);
        long blocks = large ? largeBlocks : smallBlocks;
        long splits = blocks >= device.MultiProcessors ? 1 : Math.Min(mostSplits, (2L * device.MultiProcessors + blocks - 1) / blocks);
        int depth = (int)((k + splits - 1) / splits + 63) / 64 * 64;
        return new(device, tensorCores, large, (k + depth - 1) / depth, depth, a.Start.Address, b.Start.Address,
            checked((int)a.Stride), checked((int)b.Stride), m, n, k, workspace.Start);
    }

    /// <summary>Enqueues the product, and the sum of its splits if there are several.</summary>
    public void Run<T, TForm, TEpilogue>(TEpilogue epilogue)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue
    {
        if (Splits == 1)
        {
            Multiply<T, TForm, TEpilogue>(epilogue);
            return;
        }
        Multiply<T, TForm, Partial>(new Partial(Workspace, M, N));
        SplitSumArguments<TEpilogue> arguments = new() { Sums = Workspace, Splits = Splits, M = M, N = N, Epilogue = epilogue };
        GridSize grid = new((N + 255) / 256, (M + 3) / 4);
        // A weight gradient is binary32 whatever the operands are.
        if (typeof(TEpilogue) == typeof(WeightGradientOutput)) Device.Launch(SplitSum.Finish<FP32, TEpilogue>, grid, arguments);
        else Device.Launch(SplitSum.Finish<T, TEpilogue>, grid, arguments);
    }

    /// <summary>What a kernel that computes this product is launched with.</summary>
    public GemmArguments<TEpilogue> Arguments<TEpilogue>(TEpilogue epilogue) where TEpilogue : unmanaged => new()
    {
        A = A,
        B = B,
        StrideA = StrideA,
        StrideB = StrideB,
        M = M,
        N = N,
        K = K,
        SplitDepth = SplitDepth,
        Epilogue = epilogue,
    };

    private void Multiply<T, TForm, TEpilogue>(TEpilogue epilogue)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue
    {
        GemmArguments<TEpilogue> arguments = Arguments(epilogue);
        GridSize grid = new((N + Block - 1) / Block, (M + Block - 1) / Block, Splits);
        if (!TensorCores) Device.Launch(ExactGemm.Multiply<T, TForm, TEpilogue>, grid, arguments);
        else if (LargeTile) Device.Launch(Gemm.Multiply<T, TForm, Tile128, Accumulator128, TEpilogue>, grid, arguments);
        else Device.Launch(Gemm.Multiply<T, TForm, Tile64, Accumulator32, TEpilogue>, grid, arguments);
    }

    private static long Blocks(int m, int n, int tile) => (long)((m + tile - 1) / tile) * ((n + tile - 1) / tile);
}
