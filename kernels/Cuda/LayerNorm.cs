using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Layer normalisation (Ba, Kiros and Hinton, 2016), forward and backward: y = (x - mean) * rstd * gamma + beta over each row, with the biased variance.
/// Statistics are binary32. Rows of up to 1024 elements stay in registers and are read once; longer or oddly sized rows are read three times.
/// </summary>
public static class LayerNorm
{
    private const int RowsPerBlock = 4;

    /// <summary>y = LayerNorm(x). <paramref name="mean"/> and <paramref name="rstd"/> [rows] may be absent; y may be x.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, DeviceMatrix<T> x, int rows, int hidden, DevicePointer<T> gamma, DevicePointer<T> beta, float epsilon,
        DeviceMatrix<T> y, DevicePointer<FP32> mean, DevicePointer<FP32> rstd) where T : unmanaged, IElement =>
        AddForward(device, x, default, default, rows, hidden, gamma, beta, epsilon, default, y, mean, rstd);

    /// <summary>y = LayerNorm(dropout(x) + residual); the sum is stored where there is room for it. Sum and y may each be x or the residual.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void AddForward<T>(KernelDevice device, DeviceMatrix<T> x, DropoutMask mask, DeviceMatrix<T> residual, int rows, int hidden, DevicePointer<T> gamma,
        DevicePointer<T> beta, float epsilon, DeviceMatrix<T> sum, DeviceMatrix<T> y, DevicePointer<FP32> mean, DevicePointer<FP32> rstd)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(rows, hidden);
        LayerNormArguments<T> arguments = new()
        {
            X = x,
            Residual = residual,
            Mask = mask,
            Sum = sum,
            Y = y,
            Gamma = gamma,
            Beta = beta,
            Mean = mean,
            Rstd = rstd,
            Rows = rows,
            Columns = hidden,
            InverseColumns = 1f / hidden,
            Epsilon = epsilon,
        };
        GridSize grid = new((rows + RowsPerBlock - 1) / RowsPerBlock);
        bool small = Fits(hidden, gamma.Address | beta.Address, x.IsAligned & residual.IsAligned & sum.IsAligned & y.IsAligned);
        Action<LayerNormArguments<T>> kernel = mask.IsOn
            ? small ? LayerNormKernels.Forward<T, Dropped> : LayerNormKernels.ForwardAny<T, Dropped>
            : small ? LayerNormKernels.Forward<T, Off> : LayerNormKernels.ForwardAny<T, Off>;
        device.Launch(kernel, grid, arguments);
    }

    /// <summary>
    /// dx = the input's gradient, or dx += it with <paramref name="accumulate"/>; dgamma and dbeta [hidden] are added to. x is what was normalised (the sum,
    /// for dropout(x) + residual: dx is then the residual's gradient, and <paramref name="droppedDx"/> becomes x's when the mask is on; without dropout the
    /// two are equal). The workspace must hold 2 * <paramref name="hidden"/> elements, and should hold that many for each
    /// of 4 blocks a multiprocessor.
    /// </summary>
    /// <exception cref="ArgumentException">A size is not positive, or the workspace is too small.</exception>
    public static void Backward<T>(KernelDevice device, DeviceMatrix<T> dy, DeviceMatrix<T> x, int rows, int hidden, DevicePointer<T> gamma,
        DevicePointer<FP32> mean, DevicePointer<FP32> rstd, bool accumulate, DeviceMatrix<T> dx, DropoutMask mask, DeviceMatrix<T> droppedDx, DevicePointer<FP32> dgamma, DevicePointer<FP32> dbeta,
        Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(rows, hidden);
        if (workspace.Length < 2L * hidden) throw new ArgumentException($"a workspace of {2L * hidden} elements is needed, there are {workspace.Length}", nameof(workspace));
        LayerNormGradientArguments<T> arguments = new()
        {
            Dy = dy,
            X = x,
            Dx = dx,
            DroppedDx = droppedDx,
            Mask = mask,
            Gamma = gamma,
            Mean = mean,
            Rstd = rstd,
            Partial = workspace.Start,
            Rows = rows,
            Columns = hidden,
            Accumulate = accumulate ? 1 : 0,
            InverseColumns = 1f / hidden,
        };
        int slabs = (int)Math.Min(Math.Min((rows + RowsPerBlock - 1) / RowsPerBlock, device.MultiProcessors * 4L), workspace.Length / (2L * hidden));
        if (Fits(hidden, gamma.Address, dy.IsAligned & x.IsAligned & dx.IsAligned & droppedDx.IsAligned))
        {
            device.Launch(mask.IsOn ? LayerNormKernels.Backward<T, Dropped> : LayerNormKernels.Backward<T, Off>, new GridSize(slabs), arguments);
        }
        else
        {
            device.Launch(mask.IsOn ? LayerNormKernels.BackwardAny<T, Dropped> : LayerNormKernels.BackwardAny<T, Off>,
                new GridSize((rows + RowsPerBlock - 1) / RowsPerBlock), arguments);
            arguments.Slabs = slabs;
            device.Launch(LayerNormKernels.BackwardParametersAny<T>, new GridSize((hidden + 127) / 128, slabs), arguments);
        }
        Linear.SumSlabs(device, workspace.Start, slabs, hidden, 2L * hidden, dgamma);
        Linear.SumSlabs(device, new(workspace.Start.Address + (4L * hidden)), slabs, hidden, 2L * hidden, dbeta);
    }

    private static bool Fits(int hidden, long addresses, bool aligned) =>
        aligned && hidden <= RowPart.MaximumColumns && hidden % 8 == 0 && (addresses & 15) == 0;

    private static void Check(int rows, int hidden)
    {
        if (rows <= 0 || hidden <= 0) throw new ArgumentException($"sizes must be positive: {rows} rows of {hidden}", nameof(rows));
    }
}
