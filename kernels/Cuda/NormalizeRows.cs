using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Rows of unit length: y = x / max(|x|, 1e-12), and its gradient.</summary>
public static class NormalizeRows
{
    /// <summary>y may be x.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, DeviceMatrix<T> x, int rows, int columns, DeviceMatrix<T> y) where T : unmanaged, IElement =>
        Launch(device, NormalizeRowsKernels.Forward<T>, x, default, y, rows, columns);

    /// <summary>dx = (dy - y (y . dy)) / max(|x|, 1e-12), with y recomputed from x; where the bound is met, dx = dy / 1e-12. dx may be dy.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Backward<T>(KernelDevice device, DeviceMatrix<T> dy, DeviceMatrix<T> x, int rows, int columns, DeviceMatrix<T> dx)
        where T : unmanaged, IElement => Launch(device, NormalizeRowsKernels.Backward<T>, x, dy, dx, rows, columns);

    private static void Launch<T>(KernelDevice device, Action<NormalizeRowsArguments<T>> kernel, DeviceMatrix<T> x, DeviceMatrix<T> gradient,
        DeviceMatrix<T> output, int rows, int columns) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (rows <= 0 || columns <= 0) throw new ArgumentException($"sizes must be positive: {rows} rows of {columns}", nameof(rows));
        device.Launch(kernel, new GridSize((rows + 3) / 4), new NormalizeRowsArguments<T> { X = x, Gradient = gradient, Output = output, Rows = rows, Columns = columns });
    }
}

/// <summary>Arguments of both kernels.</summary>
internal struct NormalizeRowsArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, columns]; the gradient only on the way back.</summary>
    public DeviceMatrix<T> X, Gradient, Output;

    /// <summary>Sizes.</summary>
    public int Rows, Columns;
}

/// <summary>A warp takes a row, one element a lane at a time: there is one row a text, so bandwidth does not matter here.</summary>
internal static class NormalizeRowsKernels
{
    // Below this square the norm counts as 1e-12. The square of 1e-12 itself is a normal binary32.
    private const float SmallestSquare = 1e-24f, LargestScale = 1e12f;

    [CudaKernel("NormalizeRows", KernelDirection.Forward, 128)]
    public static void Forward<T>(NormalizeRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5);
        if (row >= arguments.Rows) return;
        float scale = Scale(arguments, row);
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32) arguments.Output.Store(row, c, arguments.X.Load(row, c) * scale);
    }

    [CudaKernel("NormalizeRows", KernelDirection.Backward, 128)]
    public static void Backward<T>(NormalizeRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5);
        if (row >= arguments.Rows) return;
        float scale = Scale(arguments, row), dot = 0;
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32) dot += arguments.X.Load(row, c) * scale * arguments.Gradient.Load(row, c);
        dot = WarpReduce.Sum(dot);
        if (scale == LargestScale) dot = 0;
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32)
            arguments.Output.Store(row, c, (arguments.Gradient.Load(row, c) - arguments.X.Load(row, c) * scale * dot) * scale);
    }

    private static float Scale<T>(NormalizeRowsArguments<T> arguments, int row) where T : unmanaged, IElement
    {
        float squares = 0;
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32)
        {
            float value = arguments.X.Load(row, c);
            squares += value * value;
        }
        squares = WarpReduce.Sum(squares);
        return squares > SmallestSquare ? DeviceMath.Rsqrt(squares) : LargestScale;
    }
}
