using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// What happens to a finished element of a matrix product, and where it goes. The struct carries its own pointers and is inlined into the
/// kernel; the eight-wide form is called only where eight columns exist and <see cref="Vectorized"/> says that every pointer is aligned.
/// </summary>
internal interface IEpilogue
{
    /// <summary>Nonzero when all rows that the epilogue touches start at multiples of 16 bytes.</summary>
    int Vectorized { get; }

    /// <summary>Finishes one element.</summary>
    void Write(float value, int row, int column, int split);

    /// <summary>Finishes eight elements of a row, from a column that is a multiple of 8.</summary>
    void Write8(Float8 value, int row, int column, int split);
}

/// <summary>A row-major matrix in device memory.</summary>
internal readonly struct Rows<T>(DevicePointer<T> start, int stride) where T : unmanaged, IElement
{
    /// <summary>Element [0, 0].</summary>
    public readonly DevicePointer<T> Start = start;

    /// <summary>Elements between the starts of neighbouring rows.</summary>
    public readonly long Stride = stride;

    /// <summary>True when there is no matrix.</summary>
    public bool IsNull => Start.Address == 0;

    /// <summary>True when every row starts at a multiple of 16 bytes.</summary>
    public bool IsAligned => (Start.Address & 15) == 0 && ((Stride << T.SizeShift) & 15) == 0;

    /// <summary>One element.</summary>
    public float Load(int row, int column) => Start.Load(row * Stride + column);

    /// <summary>Eight elements.</summary>
    public Float8 Load8(int row, int column) => Start.Load8(row * Stride + column);

    /// <summary>Stores one element.</summary>
    public void Store(int row, int column, float value) => Start.Store(row * Stride + column, value);

    /// <summary>Stores eight elements.</summary>
    public void Store8(int row, int column, Float8 value) => Start.Store8(row * Stride + column, value);
}

/// <summary>The partial product of one split, binary32, [splits, M, N] without gaps; <see cref="IEpilogue"/> proper runs in the pass that adds them up.</summary>
internal struct Partial(DevicePointer<FP32> sums, int rows, int columns) : IEpilogue
{
    public DevicePointer<FP32> Sums = sums;
    public long SplitStride = (long)rows * columns;
    public int Columns = columns;
    public int Aligned = columns % 4 == 0 ? 1 : 0;

    public readonly int Vectorized => Aligned;

    public readonly void Write(float value, int row, int column, int split) => Sums.Store(split * SplitStride + (long)row * Columns + column, value);

    public readonly void Write8(Float8 value, int row, int column, int split) =>
        Sums.Store8(split * SplitStride + (long)row * Columns + column, value);
}
