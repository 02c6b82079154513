using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>One vector for each sequence of a packed batch: its first row, or the mean of its rows. Sequence b has rows cuSeqlens[b] to cuSeqlens[b + 1] - 1.</summary>
public static class Pooling
{
    /// <summary>y[b] = x[cuSeqlens[b]].</summary>
    public static void Cls<T>(KernelDevice device, DeviceMatrix<T> x, DevicePointer<int> cuSeqlens, int sequences, int hidden, DeviceMatrix<T> y)
        where T : unmanaged, IElement => Launch(device, PoolingKernels.Cls<T>, x, y, cuSeqlens, sequences, hidden);

    /// <summary>y[b] = the mean of sequence b's rows, summed in order in binary32; a sequence without rows gives zero.</summary>
    public static void Mean<T>(KernelDevice device, DeviceMatrix<T> x, DevicePointer<int> cuSeqlens, int sequences, int hidden, DeviceMatrix<T> y)
        where T : unmanaged, IElement => Launch(device, PoolingKernels.Mean<T>, x, y, cuSeqlens, sequences, hidden);

    /// <summary>dx = dy[b] in each first row, zero in all others.</summary>
    public static void ClsBackward<T>(KernelDevice device, DeviceMatrix<T> dy, DevicePointer<int> cuSeqlens, int sequences, int hidden, DeviceMatrix<T> dx)
        where T : unmanaged, IElement => Launch(device, PoolingKernels.ClsBackward<T>, dx, dy, cuSeqlens, sequences, hidden);

    /// <summary>dx = dy[b] / length in each row of sequence b.</summary>
    public static void MeanBackward<T>(KernelDevice device, DeviceMatrix<T> dy, DevicePointer<int> cuSeqlens, int sequences, int hidden, DeviceMatrix<T> dx)
        where T : unmanaged, IElement => Launch(device, PoolingKernels.MeanBackward<T>, dx, dy, cuSeqlens, sequences, hidden);

    private static void Launch<T>(KernelDevice device, Action<PoolingArguments<T>> kernel, DeviceMatrix<T> rows, DeviceMatrix<T> pooled,
        DevicePointer<int> cuSeqlens, int sequences, int hidden) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (sequences <= 0 || hidden <= 0) throw new ArgumentException($"sizes must be positive: {sequences} sequences of {hidden}", nameof(sequences));
        device.Launch(kernel, new GridSize(sequences, (hidden + 255) / 256), new PoolingArguments<T>
        {
            Rows = rows,
            Pooled = pooled,
            CuSeqlens = cuSeqlens,
            Columns = hidden,
            Vectorized = rows.IsAligned && pooled.IsAligned && hidden % 8 == 0 ? 1 : 0,
        });
    }
}

/// <summary>Arguments of all pooling kernels.</summary>
internal struct PoolingArguments<T> where T : unmanaged, IElement
{
    /// <summary>[tokens, columns] and [sequences, columns].</summary>
    public DeviceMatrix<T> Rows, Pooled;

    /// <summary>[sequences + 1].</summary>
    public DevicePointer<int> CuSeqlens;

    /// <summary>The row length, and whether 16-byte accesses are allowed.</summary>
    public int Columns, Vectorized;
}

/// <summary>A block takes 256 columns of one sequence, four warps side by side along its rows; without alignment, single elements.</summary>
internal static class PoolingKernels
{
    private const int Warps = 4;

    /// <summary>Dynamic shared memory of the mean: a row of sums for each warp.</summary>
    public const int SharedBytes = Warps * 256 * 4 + SharedBlock.AlignmentSlack;

    [CudaKernel("Pooling", KernelDirection.Forward, 128)]
    public static void Cls<T>(PoolingArguments<T> arguments) where T : unmanaged, IElement
    {
        int first = arguments.CuSeqlens.Load(Grid.IdxX);
        for (int c = Group.IdxX; c < 256; c += 128)
            if (Grid.IdxY * 256 + c < arguments.Columns)
                arguments.Pooled.Store(Grid.IdxX, Grid.IdxY * 256 + c, arguments.Rows.Load(first, Grid.IdxY * 256 + c));
    }

    [CudaKernel("Pooling", KernelDirection.Forward, 128, SharedBytes = SharedBytes)]
    public static void Mean<T>(PoolingArguments<T> arguments) where T : unmanaged, IElement
    {
        int shared = SharedBlock.Open(), warp = Group.IdxX >> 5, lane = Group.IdxX & 31, column = Grid.IdxY * 256 + lane * 8;
        int first = arguments.CuSeqlens.Load(Grid.IdxX), last = arguments.CuSeqlens.Load(Grid.IdxX + 1);
        Float8 sum = Float8.All(0);
        for (int row = first + warp; row < last; row += Warps)
            sum += arguments.Vectorized != 0 & column < arguments.Columns
                ? arguments.Rows.Load8(row, column) : ColumnSum.LoadEdge(arguments.Rows, row, column, arguments.Columns);
        SharedBlock.Store8(shared + (warp * 256 + lane * 8) * 4, sum);
        Group.Barrier();
        float scale = last > first ? DeviceMath.Reciprocal(last - first) : 0;
        for (int c = Group.IdxX; c < 256; c += 128)
        {
            float total = 0;
            for (int w = 0; w < Warps; w++) total += SharedBlock.Load(shared + (w * 256 + c) * 4);
            if (Grid.IdxY * 256 + c < arguments.Columns) arguments.Pooled.Store(Grid.IdxX, Grid.IdxY * 256 + c, total * scale);
        }
    }

    [CudaKernel("Pooling", KernelDirection.Backward, 128)]
    public static void ClsBackward<T>(PoolingArguments<T> arguments) where T : unmanaged, IElement => Spread(arguments, 1, firstOnly: 1);

    [CudaKernel("Pooling", KernelDirection.Backward, 128)]
    public static void MeanBackward<T>(PoolingArguments<T> arguments) where T : unmanaged, IElement =>
        Spread(arguments, DeviceMath.Reciprocal(Math.Max(1, arguments.CuSeqlens.Load(Grid.IdxX + 1) - arguments.CuSeqlens.Load(Grid.IdxX))), firstOnly: 0);

    private static void Spread<T>(PoolingArguments<T> arguments, float scale, int firstOnly) where T : unmanaged, IElement
    {
        int column = Grid.IdxY * 256 + (Group.IdxX & 31) * 8, first = arguments.CuSeqlens.Load(Grid.IdxX), last = arguments.CuSeqlens.Load(Grid.IdxX + 1);
        if (column >= arguments.Columns) return;
        if (arguments.Vectorized != 0)
        {
            Float8 gradient = arguments.Pooled.Load8(Grid.IdxX, column) * scale;
            for (int row = first + (Group.IdxX >> 5); row < last; row += Warps)
                arguments.Rows.Store8(row, column, firstOnly != 0 & row != first ? Float8.All(0) : gradient);
            return;
        }
        for (int c = column; c < Math.Min(column + 8, arguments.Columns); c++)
            for (int row = first + (Group.IdxX >> 5); row < last; row += Warps)
                arguments.Rows.Store(row, c, firstOnly != 0 & row != first ? 0 : arguments.Pooled.Load(Grid.IdxX, c) * scale);
    }
}
