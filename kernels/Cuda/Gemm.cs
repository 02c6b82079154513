using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>The operands of C = A B in one of the three storage forms, with the epilogue that consumes C.</summary>
internal struct GemmArguments<TEpilogue> where TEpilogue : unmanaged
{
    /// <summary>Byte addresses of the operands.</summary>
    public long A, B;

    /// <summary>Elements between the starts of neighbouring stored rows.</summary>
    public int StrideA, StrideB;

    /// <summary>Sizes of the product.</summary>
    public int M, N, K;

    /// <summary>Depth of one split, a multiple of the tile's BlockK; blocks with z = s sum over [s * SplitDepth, (s + 1) * SplitDepth).</summary>
    public int SplitDepth;

    /// <summary>Consumes the product.</summary>
    public TEpilogue Epilogue;
}

/// <summary>
/// Matrix products on the tensor cores. A block computes one tile of C: cp.async fills a ring of shared-memory stages, each of which every warp
/// multiplies out of swizzled shared memory, and the finished tile passes through shared memory once more so that the epilogue sees whole rows
/// in 16-byte pieces. What lies outside an operand is read as zero, in pieces of 8 elements: the contiguous dimension of A and B must be a multiple
/// of 8, the others are arbitrary; addresses and row strides of A and B must be multiples of 16 bytes. Sums are binary32 in a fixed order. Grid: (ceil(N / BlockN), ceil(M / BlockM), splits), so that
/// neighbouring blocks share rows of A and the whole of B stays in the second-level cache.
/// </summary>
internal static class Gemm
{
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile128), typeof(Accumulator128), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile64), typeof(Accumulator32), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile128), typeof(Accumulator128), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile64), typeof(Accumulator32), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile128), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile64), typeof(Accumulator32), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile128), typeof(Accumulator128), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile64), typeof(Accumulator32), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile128), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile64), typeof(Accumulator32), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile128), typeof(Accumulator128), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 128, typeof(Nn), typeof(Tile64), typeof(Accumulator32), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile128), typeof(Accumulator128), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 128, typeof(Tn), typeof(Tile64), typeof(Accumulator32), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    [CudaKernel("Scores", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile128), typeof(Accumulator128), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("Scores", KernelDirection.Forward, 128, typeof(Nt), typeof(Tile64), typeof(Accumulator32), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Multiply<T, TForm, TTile, TAcc, TEpilogue>(GemmArguments<TEpilogue> arguments)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, ITile
        where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        int row0 = Grid.IdxY * TTile.BlockM, column0 = Grid.IdxX * TTile.BlockN;
        int tile = Product<T, TForm, TTile, TAcc, TEpilogue>(arguments, row0, column0);
        TileOutput.Finish<TTile, TEpilogue>(arguments.Epilogue, tile, WarpMma.StagingStride(TTile.BlockN), row0, column0, arguments.M, arguments.N);
    }

    /// <summary>
    /// Computes the tile whose first element is (<paramref name="row0"/>, <paramref name="column0"/>) and leaves it in shared memory, at the address that is
    /// returned: binary32, rows <see cref="WarpMma.StagingStride"/> elements apart. All threads may read it.
    /// </summary>
    public static int Product<T, TForm, TTile, TAcc, TEpilogue>(GemmArguments<TEpilogue> arguments, int row0, int column0)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, ITile
        where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged
    {
        int shared = SharedBlock.Open();
        int stageA = TTile.BlockM * TTile.BlockK * 2, stage = stageA + TTile.BlockN * TTile.BlockK * 2;
        int depth0 = Grid.IdxZ * arguments.SplitDepth, depth = Math.Min(arguments.K - depth0, arguments.SplitDepth);
        int tiles = (depth + TTile.BlockK - 1) / TTile.BlockK;

        TileSource a = TileSource.Open<TTile>(arguments.A, arguments.StrideA, TForm.AkContiguous, row0, arguments.M, depth0, arguments.K, TTile.BlockM);
        TileSource b = TileSource.Open<TTile>(arguments.B, arguments.StrideB, TForm.BkContiguous, column0, arguments.N, depth0, arguments.K, TTile.BlockN);
        for (int s = 0; s < TTile.Stages - 1; s++)
        {
            if (s < tiles) Fetch<TForm, TTile>(ref a, ref b, shared + s * stage, shared + s * stage + stageA);
            AsyncCopy.Commit();
        }

        int lane = Group.IdxX & 31, warp = Group.IdxX >> 5;
        int warpRow = (warp >> TTile.WarpColumnsShift) * TTile.WarpM, warpColumn = (warp & ((1 << TTile.WarpColumnsShift) - 1)) * TTile.WarpN;
        int laneA = WarpMma.LaneAddressA<TForm, TTile>(lane, warpRow), laneB = stageA + WarpMma.LaneAddressB<TForm, TTile>(lane, warpColumn);
        TAcc sums = Accumulators.Zero<TAcc>();
        int read = shared, write = shared + (TTile.Stages - 1) * stage, end = shared + TTile.Stages * stage;
        for (int tile = 0; tile < tiles; tile++)
        {
            AsyncCopy.Wait(TTile.Stages - 2);
            Group.Barrier();
            if (tile + TTile.Stages - 1 < tiles) Fetch<TForm, TTile>(ref a, ref b, write, write + stageA);
            AsyncCopy.Commit();
            sums = WarpMma.Multiply<TAcc, T, TForm, TTile>(sums, read + laneA, read + laneB);
            read += stage;
            if (read == end) read = shared;
            write += stage;
            if (write == end) write = shared;
        }
        AsyncCopy.Wait(0);
        Group.Barrier();

        int stride = WarpMma.StagingStride(TTile.BlockN);
        WarpMma.Stage<TAcc, TTile>(sums, shared + ((warpRow + (lane >> 2)) * stride + warpColumn + ((lane & 3) << 1)) * 4, TTile.BlockN + 8);
        Group.Barrier();
        return shared;
    }

    private static void Fetch<TForm, TTile>(ref TileSource a, ref TileSource b, int sharedA, int sharedB)
        where TForm : struct, IForm where TTile : struct, ITile
    {
        a.Fetch<TTile>(sharedA, TForm.AkContiguous, TTile.BlockM);
        b.Fetch<TTile>(sharedB, TForm.BkContiguous, TTile.BlockN);
    }
}
