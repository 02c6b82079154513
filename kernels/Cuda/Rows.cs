using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Choosing, replacing and clearing rows by index. Indices are trusted; a thread moves 16 bytes.</summary>
public static class Rows
{
    /// <summary>y[i] = x[indices[i]], or y[i] += with <paramref name="accumulate"/>, for i below <paramref name="count"/>; rows have <paramref name="columns"/> elements.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Gather<T>(KernelDevice device, DeviceMatrix<T> x, DevicePointer<int> indices, int count, int columns, DeviceMatrix<T> y, bool accumulate)
        where T : unmanaged, IElement => Launch(device, x, indices, y, default, count, columns, accumulate);

    /// <summary>y[indices[i]] = x[i], or += with <paramref name="accumulate"/>; the indices must be distinct. Other rows of y stay as they are.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Scatter<T>(KernelDevice device, DeviceMatrix<T> x, DevicePointer<int> indices, int count, int columns, DeviceMatrix<T> y, bool accumulate)
        where T : unmanaged, IElement => Launch(device, x, default, y, indices, count, columns, accumulate);

    /// <summary>y[indices[i]] = 0.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Clear<T>(KernelDevice device, DevicePointer<int> indices, int count, int columns, DeviceMatrix<T> y) where T : unmanaged, IElement =>
        Launch(device, default, default, y, indices, count, columns, accumulate: false);

    private static void Launch<T>(KernelDevice device, DeviceMatrix<T> x, DevicePointer<int> from, DeviceMatrix<T> y, DevicePointer<int> to, int count, int columns,
        bool accumulate) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (count <= 0 || columns <= 0) throw new ArgumentException($"sizes must be positive: {count} rows of {columns}", nameof(count));
        device.Launch(RowsKernels.Move, new GridSize((count + 3) / 4, (columns + 255) / 256), new RowsArguments<T>
        {
            X = x,
            Y = y,
            From = from,
            To = to,
            Count = count,
            Columns = columns,
            Vectorized = x.IsAligned && y.IsAligned ? 1 : 0,
            Accumulate = accumulate ? 1 : 0,
        });
    }
}

/// <summary>Arguments of the row mover.</summary>
internal struct RowsArguments<T> where T : unmanaged, IElement
{
    /// <summary>Where from, or null for zeros, and where to.</summary>
    public DeviceMatrix<T> X, Y;

    /// <summary>Row numbers on either side, or null for 0, 1, 2, ...</summary>
    public DevicePointer<int> From, To;

    /// <summary>Sizes.</summary>
    public int Count, Columns;

    /// <summary>Nonzero when all rows start at multiples of 16 bytes; nonzero to add instead of storing.</summary>
    public int Vectorized, Accumulate;
}

/// <summary>A warp takes 256 columns of a row.</summary>
internal static class RowsKernels
{
    [CudaKernel("Rows", KernelDirection.Forward, 128)]
    public static void Move<T>(RowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int i = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8;
        if (i >= arguments.Count) return;
        int from = arguments.From.IsNull ? i : arguments.From.Load(i), to = arguments.To.IsNull ? i : arguments.To.Load(i);
        if (arguments.Vectorized != 0 & column + 8 <= arguments.Columns)
        {
            Float8 value = arguments.X.IsNull ? Float8.All(0) : arguments.X.Load8(from, column);
            arguments.Y.Store8(to, column, arguments.Accumulate != 0 ? value + arguments.Y.Load8(to, column) : value);
            return;
        }
        for (int c = column; c < Math.Min(column + 8, arguments.Columns); c++)
        {
            float value = arguments.X.IsNull ? 0f : arguments.X.Load(from, c);
            arguments.Y.Store(to, c, arguments.Accumulate != 0 ? value + arguments.Y.Load(to, c) : value);
        }
    }
}
