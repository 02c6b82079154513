using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the forward kernels; the residual, the sum and the statistics may be absent.</summary>
internal struct LayerNormArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, columns].</summary>
    public DeviceMatrix<T> X, Residual, Sum, Y;

    /// <summary>What is dropped of x.</summary>
    public DropoutMask Mask;

    /// <summary>[columns].</summary>
    public DevicePointer<T> Gamma, Beta;

    /// <summary>[rows].</summary>
    public DevicePointer<FP32> Mean, Rstd;

    /// <summary>Sizes.</summary>
    public int Rows, Columns;

    /// <summary>1 / columns, and what is added to the variance.</summary>
    public float InverseColumns, Epsilon;
}

/// <summary>Arguments of the backward kernels.</summary>
internal struct LayerNormGradientArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, columns]; the last only with dropout.</summary>
    public DeviceMatrix<T> Dy, X, Dx, DroppedDx;

    /// <summary>What was dropped.</summary>
    public DropoutMask Mask;

    /// <summary>[columns].</summary>
    public DevicePointer<T> Gamma;

    /// <summary>Statistics [rows], and partial parameter gradients [slabs, 2, columns]: gamma's, then beta's.</summary>
    public DevicePointer<FP32> Mean, Rstd, Partial;

    /// <summary>Sizes, and whether dx is added to.</summary>
    public int Rows, Columns, Accumulate, Slabs;

    /// <summary>1 / columns.</summary>
    public float InverseColumns;
}

/// <summary>
/// A warp takes a row. The backward kernel's blocks stay and walk over rows, because each warp keeps its sums of dgamma and dbeta in registers; a block
/// adds its four warps' sums in order and leaves one slab. Bytes a row: forward 2 elements (3 with a residual, 4 with the sum), backward 3.
/// </summary>
internal static class LayerNormKernels
{
    /// <summary>Dynamic shared memory of the backward kernel: two rows of sums for each of four warps.</summary>
    public const int SharedBytes = 4 * 2 * RowPart.MaximumColumns * 4 + SharedBlock.AlignmentSlack;

    [CudaKernel("LayerNorm", KernelDirection.Forward, 128, typeof(Off))]
    [CudaKernel("LayerNorm", KernelDirection.Forward, 128, typeof(Dropped))]
    public static void Forward<T, TDropout>(LayerNormArguments<T> arguments) where T : unmanaged, IElement where TDropout : struct, ISwitch
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), columns = arguments.Columns;
        if (row >= arguments.Rows) return;
        RowPart x = RowPart.Load(arguments.X.Start, row * arguments.X.Stride, columns);
        if (TDropout.IsOn) x = x.Dropped(arguments.Mask, row, columns);
        if (!arguments.Residual.IsNull) x += RowPart.Load(arguments.Residual.Start, row * arguments.Residual.Stride, columns);
        if (!arguments.Sum.IsNull) x.Store(arguments.Sum.Start, row * arguments.Sum.Stride, columns);
        float mean = x.Sum() * arguments.InverseColumns;
        RowPart centered = x.Minus(mean, columns);
        float rstd = DeviceMath.Rsqrt(centered.Dot(centered) * arguments.InverseColumns + arguments.Epsilon);
        RowPart gamma = RowPart.Load(arguments.Gamma, 0, columns), beta = RowPart.Load(arguments.Beta, 0, columns);
        (centered * rstd * gamma + beta).Store(arguments.Y.Start, row * arguments.Y.Stride, columns);
        StoreStatistics(arguments, row, mean, rstd);
    }

    [CudaKernel("LayerNorm", KernelDirection.Forward, 128, typeof(Off))]
    [CudaKernel("LayerNorm", KernelDirection.Forward, 128, typeof(Dropped))]
    public static void ForwardAny<T, TDropout>(LayerNormArguments<T> arguments) where T : unmanaged, IElement where TDropout : struct, ISwitch
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), lane = Group.IdxX & 31, columns = arguments.Columns;
        if (row >= arguments.Rows) return;
        float sum = 0, squares = 0;
        for (int c = lane; c < columns; c += 32) sum += Value<T, TDropout>(arguments, row, c);
        float mean = WarpReduce.Sum(sum) * arguments.InverseColumns;
        for (int c = lane; c < columns; c += 32)
        {
            float centered = Value<T, TDropout>(arguments, row, c) - mean;
            squares += centered * centered;
        }
        float rstd = DeviceMath.Rsqrt(WarpReduce.Sum(squares) * arguments.InverseColumns + arguments.Epsilon);
        for (int c = lane; c < columns; c += 32)
        {
            float value = Value<T, TDropout>(arguments, row, c);
            if (!arguments.Sum.IsNull) arguments.Sum.Store(row, c, value);
            arguments.Y.Store(row, c, (value - mean) * rstd * arguments.Gamma.Load(c) + arguments.Beta.Load(c));
        }
        StoreStatistics(arguments, row, mean, rstd);
    }

    [CudaKernel("LayerNorm", KernelDirection.Backward, 128, typeof(Off), SharedBytes = SharedBytes)]
    [CudaKernel("LayerNorm", KernelDirection.Backward, 128, typeof(Dropped), SharedBytes = SharedBytes)]
    public static void Backward<T, TDropout>(LayerNormGradientArguments<T> arguments) where T : unmanaged, IElement where TDropout : struct, ISwitch
    {
        int shared = SharedBlock.Open(), warp = Group.IdxX >> 5, columns = arguments.Columns;
        RowPart dgamma = RowPart.Zero(), dbeta = RowPart.Zero();
        for (int row = Grid.IdxX * 4 + warp; row < arguments.Rows; row += Grid.DimX * 4)
        {
            float mean = arguments.Mean.Load(row), rstd = arguments.Rstd.Load(row);
            RowPart dy = RowPart.Load(arguments.Dy.Start, row * arguments.Dy.Stride, columns);
            RowPart normal = RowPart.Load(arguments.X.Start, row * arguments.X.Stride, columns).Minus(mean, columns) * rstd;
            dgamma += dy * normal;
            dbeta += dy;
            RowPart scaled = dy * RowPart.Load(arguments.Gamma, 0, columns);
            float first = scaled.Sum() * arguments.InverseColumns, second = scaled.Dot(normal) * arguments.InverseColumns;
            RowPart dx = (scaled.Minus(first, columns) - normal * second) * rstd;
            if (TDropout.IsOn)
                dx.Dropped(arguments.Mask, row, columns).Store(arguments.DroppedDx.Start, row * arguments.DroppedDx.Stride, columns);
            if (arguments.Accumulate != 0) dx += RowPart.Load(arguments.Dx.Start, row * arguments.Dx.Stride, columns);
            dx.Store(arguments.Dx.Start, row * arguments.Dx.Stride, columns);
        }
        dgamma.Stage(shared + warp * (2 * RowPart.MaximumColumns * 4));
        dbeta.Stage(shared + (warp * 2 + 1) * (RowPart.MaximumColumns * 4));
        Group.Barrier();
        long slab = (long)Grid.IdxX * 2 * columns;
        for (int c = Group.IdxX; c < columns; c += 128)
        {
            float gammaSum = 0, betaSum = 0;
            for (int w = 0; w < 4; w++)
            {
                gammaSum += SharedBlock.Load(shared + (w * 2 * RowPart.MaximumColumns + c) * 4);
                betaSum += SharedBlock.Load(shared + ((w * 2 + 1) * RowPart.MaximumColumns + c) * 4);
            }
            arguments.Partial.Store(slab + c, gammaSum);
            arguments.Partial.Store(slab + columns + c, betaSum);
        }
    }

    [CudaKernel("LayerNorm", KernelDirection.Backward, 128, typeof(Off))]
    [CudaKernel("LayerNorm", KernelDirection.Backward, 128, typeof(Dropped))]
    public static void BackwardAny<T, TDropout>(LayerNormGradientArguments<T> arguments) where T : unmanaged, IElement where TDropout : struct, ISwitch
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), lane = Group.IdxX & 31, columns = arguments.Columns;
        if (row >= arguments.Rows) return;
        float mean = arguments.Mean.Load(row), rstd = arguments.Rstd.Load(row), sum = 0, dot = 0;
        for (int c = lane; c < columns; c += 32)
        {
            float scaled = arguments.Dy.Load(row, c) * arguments.Gamma.Load(c);
            sum += scaled;
            dot += scaled * ((arguments.X.Load(row, c) - mean) * rstd);
        }
        float first = WarpReduce.Sum(sum) * arguments.InverseColumns, second = WarpReduce.Sum(dot) * arguments.InverseColumns;
        for (int c = lane; c < columns; c += 32)
        {
            float normal = (arguments.X.Load(row, c) - mean) * rstd;
            float dx = (arguments.Dy.Load(row, c) * arguments.Gamma.Load(c) - first - normal * second) * rstd;
            if (TDropout.IsOn) arguments.DroppedDx.Store(row, c, dx * arguments.Mask.Factor(row, c));
            arguments.Dx.Store(row, c, arguments.Accumulate != 0 ? dx + arguments.Dx.Load(row, c) : dx);
        }
    }

    [CudaKernel("LayerNorm", KernelDirection.Backward, 128)]
    public static void BackwardParametersAny<T>(LayerNormGradientArguments<T> arguments) where T : unmanaged, IElement
    {
        int column = Grid.IdxX * 128 + Group.IdxX;
        if (column >= arguments.Columns) return;
        float gammaSum = 0, betaSum = 0;
        for (int row = Grid.IdxY; row < arguments.Rows; row += arguments.Slabs)
        {
            float dy = arguments.Dy.Load(row, column);
            gammaSum += dy * ((arguments.X.Load(row, column) - arguments.Mean.Load(row)) * arguments.Rstd.Load(row));
            betaSum += dy;
        }
        long slab = (long)Grid.IdxY * 2 * arguments.Columns + column;
        arguments.Partial.Store(slab, gammaSum);
        arguments.Partial.Store(slab + arguments.Columns, betaSum);
    }

    private static float Value<T, TDropout>(LayerNormArguments<T> arguments, int row, int column) where T : unmanaged, IElement where TDropout : struct, ISwitch
    {
        float value = arguments.X.Load(row, column);
        if (TDropout.IsOn) value *= arguments.Mask.Factor(row, column);
        return arguments.Residual.IsNull ? value : value + arguments.Residual.Load(row, column);
    }

    private static void StoreStatistics<T>(LayerNormArguments<T> arguments, int row, float mean, float rstd) where T : unmanaged, IElement
    {
        if ((Group.IdxX & 31) != 0) return;
        if (!arguments.Mean.IsNull) arguments.Mean.Store(row, mean);
        if (!arguments.Rstd.IsNull) arguments.Rstd.Store(row, rstd);
    }
}
