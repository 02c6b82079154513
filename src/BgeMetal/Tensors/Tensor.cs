using BgeMetal.Kernels;

namespace BgeMetal.Tensors;

/// <summary>
/// A view of device memory: rank 1 or 2, row-major, elements of a row side by side. It owns nothing: an <see cref="Arena"/> or a
/// <see cref="ParameterStore"/> does. Rows of CPU activations are padded (<see cref="RowStride"/> &gt; <see cref="Columns"/>), because
/// power-of-two strides put the rows of one matmul tile into the same cache sets; everything else is dense.
/// </summary>
internal readonly struct Tensor
{
    /// <summary>A view of <paramref name="rows"/> x <paramref name="columns"/> elements at <paramref name="address"/>.</summary>
    public Tensor(Device device, nint address, DType dtype, int rows, int columns, int rowStride)
        : this(device, address, dtype, rows, columns, rowStride, address, columns)
    {
    }

    private Tensor(Device device, nint address, DType dtype, int rows, int columns, int rowStride, nint wholeAddress, int wholeColumns)
    {
        Device = device;
        Address = address;
        DType = dtype;
        Rows = rows;
        Columns = columns;
        RowStride = rowStride;
        WholeAddress = wholeAddress;
        WholeColumns = wholeColumns;
    }

    /// <summary>Where the memory is.</summary>
    public Device Device { get; }

    /// <summary>The first element's address; 0 for the tensor that is not there.</summary>
    public nint Address { get; }

    /// <summary>How an element is stored.</summary>
    public DType DType { get; }

    /// <summary>Rows; 1 for a vector.</summary>
    public int Rows { get; }

    /// <summary>Elements of a row.</summary>
    public int Columns { get; }

    /// <summary>Elements from one row's start to the next one's.</summary>
    public int RowStride { get; }

    /// <summary>The address of the tensor that this is a column range of; its own when it is no range.</summary>
    public nint WholeAddress { get; }

    /// <summary>The columns of the tensor that this is a column range of.</summary>
    public int WholeColumns { get; }

    /// <summary>Whether there is no memory behind this view.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>The first element as float (CPU, <see cref="DType.Float32"/>).</summary>
    public unsafe float* Floats => (float*)Address;

    /// <summary>The first element as int (CPU, <see cref="DType.Int32"/>).</summary>
    public unsafe int* Ints => (int*)Address;

    /// <summary>The columns <paramref name="start"/> .. <paramref name="start"/> + <paramref name="count"/> of every row.</summary>
    public Tensor ColumnRange(int start, int count)
    {
        if (start < 0 || count < 0 || start + count > Columns)
            throw new ArgumentOutOfRangeException(nameof(start), $"columns {start}..{start + count} of {this}");
        return new Tensor(Device, Address + (nint)start * DType.SizeBytes, DType, Rows, count, RowStride, WholeAddress, WholeColumns);
    }

    /// <summary>The rows <paramref name="start"/> .. <paramref name="start"/> + <paramref name="count"/>, a tensor of its own for gradients.</summary>
    public Tensor RowRange(int start, int count)
    {
        if (start < 0 || count < 0 || start + count > Rows)
            throw new ArgumentOutOfRangeException(nameof(start), $"rows {start}..{start + count} of {this}");
        return new Tensor(Device, Address + (nint)start * RowStride * DType.SizeBytes, DType, count, Columns, RowStride);
    }

    /// <summary>One row of a CPU float tensor as a span.</summary>
    public unsafe Span<float> RowSpan(int row) =>
        (uint)row < (uint)Rows ? new Span<float>(Floats + (long)row * RowStride, Columns) : throw new ArgumentOutOfRangeException(nameof(row));

    /// <inheritdoc/>
    public override string ToString() => $"{DType} [{Rows}, {Columns}]";
}
