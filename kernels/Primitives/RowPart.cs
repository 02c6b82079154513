using ILGPU;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// One lane's share of a row that a warp holds in registers: up to 1024 elements, lane l with elements 8 l + 256 i to 8 l + 256 i + 7. What lies beyond
/// the row's end is zero. Rows must start at multiples of 16 bytes and their length must be a multiple of 8.
/// </summary>
internal struct RowPart
{
    /// <summary>The longest row.</summary>
    public const int MaximumColumns = 1024;

    private Float8 _a, _b, _c, _d;

    /// <summary>Element by element.</summary>
    public static RowPart operator +(RowPart x, RowPart y) => new() { _a = x._a + y._a, _b = x._b + y._b, _c = x._c + y._c, _d = x._d + y._d };

    /// <summary>Element by element.</summary>
    public static RowPart operator -(RowPart x, RowPart y) => new() { _a = x._a - y._a, _b = x._b - y._b, _c = x._c - y._c, _d = x._d - y._d };

    /// <summary>Element by element.</summary>
    public static RowPart operator *(RowPart x, RowPart y) => new() { _a = x._a * y._a, _b = x._b * y._b, _c = x._c * y._c, _d = x._d * y._d };

    /// <summary>Every element times <paramref name="y"/>.</summary>
    public static RowPart operator *(RowPart x, float y) => new() { _a = x._a * y, _b = x._b * y, _c = x._c * y, _d = x._d * y };

    /// <summary>All zero.</summary>
    public static RowPart Zero() => new() { _a = Float8.All(0), _b = Float8.All(0), _c = Float8.All(0), _d = Float8.All(0) };

    /// <summary>The lane's share of the row that starts <paramref name="offset"/> elements after <paramref name="start"/>.</summary>
    public static RowPart Load<T>(DevicePointer<T> start, long offset, int columns) where T : unmanaged, IElement
    {
        int column = (Group.IdxX & 31) << 3;
        RowPart row = Zero();
        if (column < columns) row._a = start.Load8(offset + column);
        if (column + 256 < columns) row._b = start.Load8(offset + column + 256);
        if (column + 512 < columns) row._c = start.Load8(offset + column + 512);
        if (column + 768 < columns) row._d = start.Load8(offset + column + 768);
        return row;
    }

    /// <summary>Rounds and stores the lane's share.</summary>
    public readonly void Store<T>(DevicePointer<T> start, long offset, int columns) where T : unmanaged, IElement
    {
        int column = (Group.IdxX & 31) << 3;
        if (column < columns) start.Store8(offset + column, _a);
        if (column + 256 < columns) start.Store8(offset + column + 256, _b);
        if (column + 512 < columns) start.Store8(offset + column + 512, _c);
        if (column + 768 < columns) start.Store8(offset + column + 768, _d);
    }

    /// <summary>Writes all 1024 elements of the warp's row to shared memory as binary32.</summary>
    public readonly void Stage(int address)
    {
        address += (Group.IdxX & 31) << 5;
        SharedBlock.Store8(address, _a);
        SharedBlock.Store8(address + 1024, _b);
        SharedBlock.Store8(address + 2048, _c);
        SharedBlock.Store8(address + 3072, _d);
    }

    /// <summary>The row minus <paramref name="value"/>, still zero beyond its end.</summary>
    public readonly RowPart Minus(float value, int columns)
    {
        int column = (Group.IdxX & 31) << 3;
        return new()
        {
            _a = _a - (column < columns ? value : 0),
            _b = _b - (column + 256 < columns ? value : 0),
            _c = _c - (column + 512 < columns ? value : 0),
            _d = _d - (column + 768 < columns ? value : 0),
        };
    }

    /// <summary>The row times the factors of the mask's row.</summary>
    public readonly RowPart Dropped(DropoutMask mask, int maskRow, int columns)
    {
        int column = (Group.IdxX & 31) << 3;
        RowPart row = this;
        if (column < columns) row._a *= mask.Factors8(maskRow, column);
        if (column + 256 < columns) row._b *= mask.Factors8(maskRow, column + 256);
        if (column + 512 < columns) row._c *= mask.Factors8(maskRow, column + 512);
        if (column + 768 < columns) row._d *= mask.Factors8(maskRow, column + 768);
        return row;
    }

    /// <summary>The sum of the whole row, in every lane.</summary>
    public readonly float Sum() => WarpReduce.Sum((_a.Sum() + _b.Sum()) + (_c.Sum() + _d.Sum()));

    /// <summary>The inner product of whole rows, in every lane.</summary>
    public readonly float Dot(RowPart y) => (this * y).Sum();
}
