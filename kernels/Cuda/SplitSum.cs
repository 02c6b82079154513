using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Partial products [splits, M, N] and the epilogue that their sum goes to.</summary>
internal struct SplitSumArguments<TEpilogue> where TEpilogue : unmanaged, IEpilogue
{
    /// <summary>The partial products.</summary>
    public DevicePointer<FP32> Sums;

    /// <summary>Their number and sizes.</summary>
    public int Splits, M, N;

    /// <summary>Consumes the sum.</summary>
    public TEpilogue Epilogue;
}

/// <summary>
/// The second pass of a product that was split along its depth: adds the partial products in order, so that results are reproducible. Rows lie on grid X, which has no limit that matters;
/// Y takes 65,535 blocks, 16 million columns.
/// </summary>
internal static class SplitSum
{
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(LinearOutput<>))]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(GeluOutput<>))]
    [CudaKernel("Linear", KernelDirection.Forward, 128, typeof(TanhOutput<>))]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(GradientOutput<>))]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(GeluGradientOutput<>))]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(WeightGradientOutput), Elements = ElementTypes.Single)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 128, typeof(SummedGradientOutput<>))]
    [CudaKernel("InfoNce", KernelDirection.Backward, 128, typeof(ScaledOutput<>))]
    public static void Finish<T, TEpilogue>(SplitSumArguments<TEpilogue> arguments) where T : unmanaged, IElement where TEpilogue : unmanaged, IEpilogue
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8;
        if (row >= arguments.M | column >= arguments.N) return;
        long stride = (long)arguments.M * arguments.N, start = (long)row * arguments.N + column;
        if (arguments.Epilogue.Vectorized != 0 & (arguments.N & 7) == 0)
        {
            Float8 sum = arguments.Sums.Load8(start);
            for (int s = 1; s < arguments.Splits; s++) sum += arguments.Sums.Load8(start + s * stride);
            arguments.Epilogue.Write8(sum, row, column, 0);
            return;
        }
        for (int c = 0; c < Math.Min(8, arguments.N - column); c++)
        {
            float sum = 0;
            for (int s = 0; s < arguments.Splits; s++) sum += arguments.Sums.Load(start + c + s * stride);
            arguments.Epilogue.Write(sum, row, column + c, 0);
        }
    }
}
