using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Matrices times a number, stored or added: sums of gradients, weighted losses, binary32 sums that leave as something shorter.</summary>
public static class AddScaled
{
    /// <summary>
    /// y = scale x, or y += scale x with <paramref name="accumulate"/>, over [rows, columns]. Between equal types, or between binary32 and another. y may
    /// be x when stored. Reads 1 or 2 elements and writes 1.
    /// </summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    /// <exception cref="NotSupportedException">Neither are the types equal nor is one of them binary32.</exception>
    public static void Run<TFrom, TTo>(KernelDevice device, DeviceMatrix<TFrom> x, int rows, int columns, DeviceScalar scale, bool accumulate, DeviceMatrix<TTo> y)
        where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (rows <= 0 || columns <= 0) throw new ArgumentException($"sizes must be positive: {rows} rows of {columns}", nameof(rows));
        AddScaledArguments<TFrom, TTo> arguments = new()
        {
            X = x,
            Y = y,
            Scale = scale,
            Rows = rows,
            Columns = columns,
            Vectorized = x.IsAligned && y.IsAligned ? 1 : 0,
            Accumulate = accumulate ? 1 : 0,
        };
        GridSize grid = new((rows + 3) / 4, (columns + 255) / 256);
        if (TFrom.DType == TTo.DType) device.Launch<AddScaledArguments<TTo, TTo>>(AddScaledKernels.Same, grid, As<TFrom, TTo, TTo, TTo>(arguments));
        else if (TFrom.DType == DType.Float32) device.Launch<AddScaledArguments<FP32, TTo>>(AddScaledKernels.Narrow, grid, As<TFrom, TTo, FP32, TTo>(arguments));
        else if (TTo.DType == DType.Float32) device.Launch<AddScaledArguments<TFrom, FP32>>(AddScaledKernels.Widen, grid, As<TFrom, TTo, TFrom, FP32>(arguments));
        else throw new NotSupportedException($"{TFrom.DType} cannot be added to {TTo.DType}");
    }

    // The same bytes by the name of the same type.
    private static AddScaledArguments<TX, TY> As<TFrom, TTo, TX, TY>(AddScaledArguments<TFrom, TTo> arguments)
        where TFrom : unmanaged, IElement where TTo : unmanaged, IElement where TX : unmanaged, IElement where TY : unmanaged, IElement =>
        System.Runtime.CompilerServices.Unsafe.BitCast<AddScaledArguments<TFrom, TTo>, AddScaledArguments<TX, TY>>(arguments);
}

/// <summary>Arguments of all variants.</summary>
internal struct AddScaledArguments<TFrom, TTo> where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
{
    /// <summary>Where from.</summary>
    public DeviceMatrix<TFrom> X;

    /// <summary>Where to.</summary>
    public DeviceMatrix<TTo> Y;

    /// <summary>What x is multiplied with.</summary>
    public DeviceScalar Scale;

    /// <summary>Sizes.</summary>
    public int Rows, Columns;

    /// <summary>Nonzero when all rows start at multiples of 16 bytes; nonzero to add instead of storing.</summary>
    public int Vectorized, Accumulate;
}

/// <summary>A warp takes 256 columns of a row.</summary>
internal static class AddScaledKernels
{
    [CudaKernel("AddScaled", KernelDirection.Update, 128)]
    public static void Same<T>(AddScaledArguments<T, T> arguments) where T : unmanaged, IElement => Add(arguments);

    [CudaKernel("AddScaled", KernelDirection.Update, 128, Elements = ElementTypes.Low)]
    public static void Narrow<T>(AddScaledArguments<FP32, T> arguments) where T : unmanaged, IElement => Add(arguments);

    [CudaKernel("AddScaled", KernelDirection.Update, 128, Elements = ElementTypes.Low)]
    public static void Widen<T>(AddScaledArguments<T, FP32> arguments) where T : unmanaged, IElement => Add(arguments);

    private static void Add<TFrom, TTo>(AddScaledArguments<TFrom, TTo> arguments) where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8;
        if (row >= arguments.Rows) return;
        float scale = arguments.Scale.Load();
        if (arguments.Vectorized != 0 & column + 8 <= arguments.Columns)
        {
            Float8 value = arguments.X.Load8(row, column) * scale;
            arguments.Y.Store8(row, column, arguments.Accumulate != 0 ? value + arguments.Y.Load8(row, column) : value);
            return;
        }
        for (int c = column; c < Math.Min(column + 8, arguments.Columns); c++)
        {
            float value = arguments.X.Load(row, c) * scale;
            arguments.Y.Store(row, c, arguments.Accumulate != 0 ? value + arguments.Y.Load(row, c) : value);
        }
    }
}
