using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Matrix products in binary32 fused multiply-adds: the exact mode, and the way for half-precision operands whose sizes or addresses the tensor-core
/// kernel cannot take (a classification head with one output, say). Any sizes, strides and alignments. Stages hold binary32 with the depth as
/// the slow dimension; depth 0, 1, 2, ... are added in order, so the sum of one split is the plain loop's sum with fused rounding.
/// </summary>
internal static class ExactGemm
{
    [CudaKernel("Linear", KernelDirection.Forward, 256, typeof(Nt), typeof(LinearOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Forward, 256, typeof(Nt), typeof(GeluOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Forward, 256, typeof(Nt), typeof(TanhOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Forward, 256, typeof(Nt), typeof(Partial), Elements = ElementTypes.Single, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Backward, 256, typeof(Nn), typeof(GradientOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Backward, 256, typeof(Nn), typeof(GeluGradientOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Backward, 256, typeof(Nn), typeof(Partial), Elements = ElementTypes.Single, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Backward, 256, typeof(Tn), typeof(WeightGradientOutput), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Linear", KernelDirection.Backward, 256, typeof(Tn), typeof(Partial), Elements = ElementTypes.Single, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 256, typeof(Nn), typeof(SummedGradientOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 256, typeof(Nt), typeof(ContrastiveWeights<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("InfoNce", KernelDirection.Backward, 256, typeof(Tn), typeof(ScaledOutput<>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    [CudaKernel("Scores", KernelDirection.Forward, 256, typeof(Nt), typeof(ScaledOutput<FP32>), SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    public static void Multiply<T, TForm, TEpilogue>(GemmArguments<TEpilogue> arguments)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged, IEpilogue
    {
        int row0 = Grid.IdxY * TileExact.BlockM, column0 = Grid.IdxX * TileExact.BlockN;
        int tile = Product<T, TForm, TEpilogue>(arguments, row0, column0);
        TileOutput.Finish<TileExact, TEpilogue>(arguments.Epilogue, tile, WarpMma.StagingStride(TileExact.BlockN), row0, column0, arguments.M, arguments.N);
    }

    /// <summary>As <see cref="Gemm.Product"/>.</summary>
    public static int Product<T, TForm, TEpilogue>(GemmArguments<TEpilogue> arguments, int row0, int column0)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged
    {
        int shared = SharedBlock.Open();
        int depth0 = Grid.IdxZ * arguments.SplitDepth, depth = Math.Min(arguments.K, depth0 + arguments.SplitDepth);
        int tiles = (depth - depth0 + TileExact.BlockK - 1) / TileExact.BlockK;
        const int stage = 2 * TileExact.OperandBytes;
        for (int s = 0; s < TileExact.Stages - 1; s++)
        {
            Fetch<T, TForm, TEpilogue>(arguments, shared + s * stage, row0, column0, depth0 + s * TileExact.BlockK, depth);
            AsyncCopy.Commit();
        }
        int cornerA = (Group.IdxX >> 4) << 2, cornerB = (Group.IdxX & 15) << 2;
        Accumulator64 sums = Accumulators.Zero<Accumulator64>();
        int read = shared, write = shared + (TileExact.Stages - 1) * stage, end = shared + TileExact.Stages * stage;
        for (int tile = 0; tile < tiles; tile++)
        {
            AsyncCopy.Wait(TileExact.Stages - 2);
            Group.Barrier();
            Fetch<T, TForm, TEpilogue>(arguments, write, row0, column0, depth0 + (tile + TileExact.Stages - 1) * TileExact.BlockK, depth);
            AsyncCopy.Commit();
            sums = ThreadMma.Multiply(sums, read + (cornerA << 2), read + TileExact.OperandBytes + (cornerB << 2), TileExact.BlockK, TileExact.Pitch);
            read += stage;
            if (read == end) read = shared;
            write += stage;
            if (write == end) write = shared;
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        int stride = WarpMma.StagingStride(TileExact.BlockN);
        ThreadMma.Stage(sums, shared + (cornerA * stride + cornerB) * 4, stride);
        Group.Barrier();
        return shared;
    }

    private static void Fetch<T, TForm, TEpilogue>(GemmArguments<TEpilogue> arguments, int stage, int row0, int column0, int depth0, int depth)
        where T : unmanaged, IElement where TForm : struct, IForm where TEpilogue : unmanaged
    {
        FetchOperand<T>(stage, arguments.A, arguments.StrideA, TForm.AkContiguous, row0, arguments.M, depth0, depth);
        FetchOperand<T>(stage + TileExact.OperandBytes, arguments.B, arguments.StrideB, TForm.BkContiguous, column0, arguments.N, depth0, depth);
    }

    /// <summary>
    /// Copies one operand's stage: depths <paramref name="depth0"/> to + 7, rows or columns <paramref name="start"/> to + 127; zero from
    /// <paramref name="depth"/> and <paramref name="limit"/> on.
    /// </summary>
    // Threads run along the contiguous dimension: 8 depths x 32 rows at a time, or 128 rows x 2 depths.
    public static void FetchOperand<T>(int target, long address, int stride, bool depthContiguous, int start, int limit, int depth0, int depth)
        where T : unmanaged, IElement
    {
        for (int i = 0; i < 4; i++)
        {
            int k = depthContiguous ? Group.IdxX & 7 : (Group.IdxX >> 7) + 2 * i;
            int r = depthContiguous ? (Group.IdxX >> 3) + 32 * i : Group.IdxX & 127;
            bool valid = depth0 + k < depth & start + r < limit;
            long index = depthContiguous ? (long)(start + r) * stride + depth0 + k : (long)(depth0 + k) * stride + start + r;
            AsyncCopy.Element<T>(target + (k * TileExact.Pitch + r) * 4, address + (index << T.SizeShift), valid ? 1 : 0);
        }
    }
}
