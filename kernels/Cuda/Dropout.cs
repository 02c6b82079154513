using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Dropout by itself, where nothing is near to fuse it into; its own gradient, applied to dy.</summary>
public static class Dropout
{
    /// <summary>y = x * mask / (1 - p), element by element. y may be x.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Apply<T>(KernelDevice device, DeviceMatrix<T> x, int rows, int columns, DropoutMask mask, DeviceMatrix<T> y) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (rows <= 0 || columns <= 0) throw new ArgumentException($"sizes must be positive: {rows} rows of {columns}", nameof(rows));
        device.Launch(DropoutKernels.Apply<T>, new GridSize((rows + 3) / 4, (columns + 255) / 256), new DropoutArguments<T>
        {
            X = x,
            Y = y,
            Mask = mask,
            Rows = rows,
            Columns = columns,
            Vectorized = x.IsAligned && y.IsAligned && columns % 8 == 0 ? 1 : 0,
        });
    }
}

/// <summary>Arguments of the kernel.</summary>
internal struct DropoutArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, columns].</summary>
    public DeviceMatrix<T> X, Y;

    /// <summary>What is dropped.</summary>
    public DropoutMask Mask;

    /// <summary>Sizes, and whether 16-byte accesses are allowed.</summary>
    public int Rows, Columns, Vectorized;
}

/// <summary>A warp takes 256 columns of a row.</summary>
internal static class DropoutKernels
{
    [CudaKernel("Dropout", KernelDirection.Forward, 128)]
    public static void Apply<T>(DropoutArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8, columns = arguments.Columns;
        if (row >= arguments.Rows | column >= columns) return;
        if (arguments.Vectorized != 0)
            arguments.Y.Store8(row, column, arguments.X.Load8(row, column) * arguments.Mask.Factors8(row, column));
        else
            for (int c = 0; c < Math.Min(8, columns - column); c++)
                arguments.Y.Store(row, column + c, arguments.X.Load(row, column + c) * arguments.Mask.Factor(row, column + c));
    }
}
