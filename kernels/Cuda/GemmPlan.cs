using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>How one matrix product runs: which kernel, which tile, and how often its depth is split.</summary>
internal readonly record struct GemmPlan(KernelDevice Device, bool TensorCores, bool LargeTile, int Splits, int SplitDepth,
    long A, long B, int StrideA, int StrideB, int M, int N, int K, DevicePointer<FP32> Workspace)
{
    /// <summary>Which warp-group kernel runs it, where one does.</summary>
    public WarpGroupTiling WarpGroups { get; init; }

    // A split shorter than this spends more time on partial sums than it saves.
    private const int MinimumSplitDepth = 256;

    // More are not tried, for the host's sake.
    private const int MostWarpGroupSplits = 16;

    /// <summary>Rows and columns of a block's tile.</summary>
    public int Block => LargeTile ? 128 : 64;

    /// <summary>
    /// On Hopper, the warp-group kernel or mma.sync, whichever <see cref="GemmCost"/> predicts to be faster, given <paramref name="epilogueInstructions"/> an element. mma.sync
    /// prefers the large tile where it fills the device, splitting the depth if need be; otherwise the small tile. Two blocks share a
    /// multiprocessor, so a product is worth splitting until there are twice as many blocks as multiprocessors. With <paramref name="paddedA"/> the stored rows
    /// of A are zero up to the next multiple of 8 elements, so that their length may be anything.
    /// </summary>
    public static GemmPlan Choose<T, TForm>(KernelDevice device, int m, int n, int k, DeviceMatrix<T> a, DeviceMatrix<T> b, Workspace workspace, bool paddedA = false,
        int epilogueInstructions = GemmCost.PlainEpilogue)
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
        WarpGroupTiling tiling = tensorCores && device.HasWarpGroups && (n & 7) == 0
            ? ChooseTiling(device, m, n, k, large ? 128 : 64, mostSplits, epilogueInstructions, ref splits) : WarpGroupTiling.None;
        int depth = (int)((k + splits - 1) / splits + 63) / 64 * 64;
        return new(device, tensorCores, large, (k + depth - 1) / depth, depth, a.Start.Address, b.Start.Address,
            checked((int)a.Stride), checked((int)b.Stride), m, n, k, workspace.Start)
        { WarpGroups = tiling };
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
        GridSize grid = new((M + 3) / 4, (N + 255) / 256);
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

    // What is taken replaces mma.sync's splits. Products of four turns and more are not split: their last turn matters little.
    private static WarpGroupTiling ChooseTiling(KernelDevice device, int m, int n, int k, int mmaBlock, long mostSplits, int epilogue, ref long splits)
    {
        int processors = device.MultiProcessors;
        double best = Allows(device, WarpGroupTiling.None) ? GemmCost.Mma(m, n, k, (int)splits, processors, epilogue, mmaBlock) : double.PositiveInfinity;
        WarpGroupTiling chosen = WarpGroupTiling.None;
        foreach (WarpGroupTiling tiling in (ReadOnlySpan<WarpGroupTiling>)[WarpGroupTiling.Tile256, WarpGroupTiling.Tile128, WarpGroupTiling.Pair128])
        {
            if (!Allows(device, tiling)) continue;
            int blockN = tiling == WarpGroupTiling.Tile256 ? WarpGroupTile256.BlockN : WarpGroupTile128.BlockN;
            long tiles = (m + 127L) / 128 * ((n + blockN - 1) / blockN), most = tiles >= 4 * processors ? 1 : Math.Min(mostSplits, MostWarpGroupSplits);
            for (int tried = 1; tried <= most; tried++)
            {
                double cycles = GemmCost.Of(tiling, m, n, k, tried, processors, epilogue);
                if (cycles < best) (best, splits, chosen) = (cycles, tried, tiling);
            }
        }
        return chosen;
    }

    private static bool Allows(KernelDevice device, WarpGroupTiling tiling) => (device.Products & tiling switch
    {
        WarpGroupTiling.Tile128 => ProductKernels.Tile128,
        WarpGroupTiling.Tile256 => ProductKernels.Tile256,
        WarpGroupTiling.Pair128 => ProductKernels.Pair128,
        _ => ProductKernels.Mma,
    }) != 0;

    private void MultiplyByWarpGroups<T, TForm, TEpilogue>(TEpilogue epilogue)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue
    {
        switch (WarpGroups)
        {
            case WarpGroupTiling.Tile256:
                Launch<TForm, WarpGroupTile256, TEpilogue>(WarpGroupGemm.Multiply<T, TForm, WarpGroupTile256, Accumulator128, TEpilogue>, WarpGroupTile256.MinBlocks, epilogue);
                break;
            case WarpGroupTiling.Pair128:
                Launch<TForm, WarpGroupPair128, TEpilogue>(WarpGroupGemm.Multiply<T, TForm, WarpGroupPair128, Accumulator64, TEpilogue>, WarpGroupTile128.MinBlocks, epilogue);
                break;
            default:
                Launch<TForm, WarpGroupTile128, TEpilogue>(WarpGroupGemm.Multiply<T, TForm, WarpGroupTile128, Accumulator64, TEpilogue>, WarpGroupTile128.MinBlocks, epilogue);
                break;
        }
    }

    // The maps follow the form: an operand whose depth is contiguous comes in boxes of all the rows that a block fetches, another in boxes of 64 x 64.
    private void Launch<TForm, TTile, TEpilogue>(Action<WarpGroupArguments<TEpilogue>> kernel, int blocksPerMultiprocessor, TEpilogue epilogue)
        where TForm : struct, IForm where TTile : struct, IWarpGroupTile where TEpilogue : unmanaged, IEpilogue
    {
        int blockM = IWarpGroupTile.BlockM * TTile.ClusterBlocks, tilesM = (M + blockM - 1) / blockM, tilesN = (N + TTile.BlockN - 1) / TTile.BlockN, items = tilesM * tilesN * Splits;
        WarpGroupArguments<TEpilogue> arguments = new()
        {
            A = Device.Encode(TForm.AkContiguous ? new(A, K, M, StrideA * 2L, IWarpGroupTile.BlockM) : new(A, M, K, StrideA * 2L, TensorMap.BoxColumns)),
            B = Device.Encode(TForm.BkContiguous ? new(B, K, N, StrideB * 2L, TTile.BlockN / TTile.ClusterBlocks) : new(B, N, K, StrideB * 2L, TensorMap.BoxColumns)),
            M = M,
            N = N,
            K = K,
            SplitDepth = SplitDepth,
            TilesM = tilesM,
            TilesN = tilesN,
            Items = items,
            Epilogue = epilogue,
        };
        int clusters = Math.Min(items, Device.MultiProcessors * blocksPerMultiprocessor / TTile.ClusterBlocks);
        Device.Launch(kernel, new GridSize(clusters * TTile.ClusterBlocks), arguments);
    }

    private void Multiply<T, TForm, TEpilogue>(TEpilogue epilogue)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue
    {
        if (WarpGroups != WarpGroupTiling.None && epilogue.Vectorized != 0)
        {
            MultiplyByWarpGroups<T, TForm, TEpilogue>(epilogue);
            return;
        }
        GemmArguments<TEpilogue> arguments = Arguments(epilogue);
        GridSize grid = new((N + Block - 1) / Block, (M + Block - 1) / Block, Splits);
        if (!TensorCores) Device.Launch(ExactGemm.Multiply<T, TForm, TEpilogue>, grid, arguments);
        else if (LargeTile) Device.Launch(Gemm.Multiply<T, TForm, Tile128, Accumulator128, TEpilogue>, grid, arguments);
        else Device.Launch(Gemm.Multiply<T, TForm, Tile64, Accumulator32, TEpilogue>, grid, arguments);
    }

    private static long Blocks(int m, int n, int tile) => (long)((m + tile - 1) / tile) * ((n + tile - 1) / tile);
}
