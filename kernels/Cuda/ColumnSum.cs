using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sums the columns of [rows, columns] slab by slab into [slabs, columns].</summary>
internal struct ColumnSumArguments<T> where T : unmanaged, IElement
{
    /// <summary>What is summed.</summary>
    public DeviceMatrix<T> Values;

    /// <summary>One row of sums for each slab.</summary>
    public DevicePointer<FP32> Partial;

    /// <summary>Sizes.</summary>
    public int Rows, Columns, SlabRows;

    /// <summary>Nonzero when all rows start at multiples of 16 bytes.</summary>
    public int Vectorized;
}

/// <summary>Adds the sum of [slabs, columns] to a vector.</summary>
internal struct SlabSumArguments
{
    /// <summary>One row for each slab, <see cref="Stride"/> elements apart.</summary>
    public DevicePointer<FP32> Partial;

    /// <summary>The vector the sum is added to.</summary>
    public DevicePointer<FP32> Output;

    /// <summary>Elements between the starts of neighbouring slabs.</summary>
    public long Stride;

    /// <summary>Sizes.</summary>
    public int Slabs, Columns;
}

/// <summary>
/// Column sums in two passes without atomics: bias gradients, and the second pass of every gradient that is reduced over rows. The first pass reads
/// the matrix once, 256 columns a block; the number of slabs decides the order of the sum, so it must not depend on anything but shapes and device.
/// </summary>
internal static class ColumnSum
{
    private const int Columns = 256, Warps = 8;

    /// <summary>Dynamic shared memory of the first pass: a row of sums for each warp.</summary>
    public const int SharedBytes = Warps * Columns * 4 + SharedBlock.AlignmentSlack;

    [CudaKernel("Linear", KernelDirection.Backward, 256, SharedBytes = SharedBytes)]
    public static void Slabs<T>(ColumnSumArguments<T> arguments) where T : unmanaged, IElement
    {
        int shared = SharedBlock.Open();
        int warp = Group.IdxX >> 5, lane = Group.IdxX & 31, column = Grid.IdxX * Columns + lane * 8;
        int first = Grid.IdxY * arguments.SlabRows, last = Math.Min(first + arguments.SlabRows, arguments.Rows);
        bool vectorized = arguments.Vectorized != 0 & column + 8 <= arguments.Columns;
        Float8 sum = Float8.All(0);
        for (int row = first + warp; row < last; row += Warps)
            sum += vectorized ? arguments.Values.Load8(row, column) : LoadEdge(arguments.Values, row, column, arguments.Columns);
        SharedBlock.Store8(shared + (warp * Columns + lane * 8) * 4, sum);
        Group.Barrier();
        float total = 0;
        for (int w = 0; w < Warps; w++) total += SharedBlock.Load(shared + (w * Columns + Group.IdxX) * 4);
        int mine = Grid.IdxX * Columns + Group.IdxX;
        if (mine < arguments.Columns) arguments.Partial.Store((long)Grid.IdxY * arguments.Columns + mine, total);
    }

    [CudaKernel("Linear", KernelDirection.Backward, 128, Elements = ElementTypes.None)]
    public static void Finish(SlabSumArguments arguments)
    {
        int column = Grid.IdxX * 128 + Group.IdxX;
        if (column >= arguments.Columns) return;
        float sum = 0;
        for (int s = 0; s < arguments.Slabs; s++) sum += arguments.Partial.Load(s * arguments.Stride + column);
        arguments.Output.Store(column, arguments.Output.Load(column) + sum);
    }

    /// <summary>Eight elements of a row, zero from column <paramref name="columns"/> on; needs no alignment.</summary>
    public static Float8 LoadEdge<T>(DeviceMatrix<T> values, int row, int column, int columns) where T : unmanaged, IElement
    {
        Float8 result = Float8.All(0);
        if (column < columns) result.A = values.Load(row, column);
        if (column + 1 < columns) result.B = values.Load(row, column + 1);
        if (column + 2 < columns) result.C = values.Load(row, column + 2);
        if (column + 3 < columns) result.D = values.Load(row, column + 3);
        if (column + 4 < columns) result.E = values.Load(row, column + 4);
        if (column + 5 < columns) result.F = values.Load(row, column + 5);
        if (column + 6 < columns) result.G = values.Load(row, column + 6);
        if (column + 7 < columns) result.H = values.Load(row, column + 7);
        return result;
    }
}
