using System.Buffers;
using BgeMetal.Kernels;

namespace BgeMetal.Tensors;

/// <summary>
/// A view of device memory: rank 1 or 2, row-major, elements of a row side by side. It owns nothing: an <see cref="Arena"/> or a
/// <see cref="ParameterStore"/> does. Rows of activations may be padded (<see cref="Device.RowStride"/>); everything else is dense.
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
    public unsafe Span<float> RowSpan(int row)
    {
        if (Device.Kind != DeviceKind.Cpu) throw new InvalidOperationException($"{this} is not in host memory");
        return (uint)row < (uint)Rows ? new Span<float>(Floats + (long)row * RowStride, Columns) : throw new ArgumentOutOfRangeException(nameof(row));
    }

    /// <summary>The only element of a [1, 1], from any device; waits for it.</summary>
    public float Value
    {
        get
        {
            Span<float> value = [0];
            (Rows == 1 && Columns == 1 ? this : throw new InvalidOperationException($"{this} is no single number")).CopyTo(value);
            return value[0];
        }
    }

    /// <summary>All elements as floats, [rows, columns] without padding, from any device and storage type; waits for them.</summary>
    public void CopyTo(Span<float> destination)
    {
        if (destination.Length < (long)Rows * Columns) throw new ArgumentException($"{destination.Length} floats cannot hold {this}", nameof(destination));
        if (Device.Kind == DeviceKind.Cpu)
        {
            for (int row = 0; row < Rows; row++) RowSpan(row).CopyTo(destination[(row * Columns)..]);
            return;
        }
        int size = DType.SizeBytes, length = checked((((Rows - 1) * RowStride) + Columns) * size);
        byte[] bytes = ArrayPool<byte>.Shared.Rent(length);
        Device.Read(Address, bytes.AsSpan(0, length));
        for (int row = 0; row < Rows; row++)
            ElementConversion.ToFloats(bytes.AsSpan(row * RowStride * size, Columns * size), DType, destination.Slice(row * Columns, Columns));
        ArrayPool<byte>.Shared.Return(bytes);
    }

    /// <summary>Sets all elements from floats, [rows, columns] without padding, on any device and rounded to any storage type.</summary>
    public void CopyFrom(ReadOnlySpan<float> source)
    {
        if (source.Length != (long)Rows * Columns) throw new ArgumentException($"{source.Length} floats do not make {this}", nameof(source));
        if (Device.Kind == DeviceKind.Cpu)
        {
            for (int row = 0; row < Rows; row++) source.Slice(row * Columns, Columns).CopyTo(RowSpan(row));
            return;
        }
        int size = DType.SizeBytes;
        byte[] bytes = ArrayPool<byte>.Shared.Rent(Columns * size);
        for (int row = 0; row < Rows; row++)
        {
            ElementConversion.FromFloats(source.Slice(row * Columns, Columns), DType, bytes);
            Device.Write<byte>(bytes.AsSpan(0, Columns * size), Address + (nint)((long)row * RowStride * size));
        }
        ArrayPool<byte>.Shared.Return(bytes);
    }

    /// <summary>Sets all rows from a tensor of the same device, storage type, shape and row stride.</summary>
    public void CopyRows(Tensor source)
    {
        if ((source.DType, source.Rows, source.Columns, source.RowStride) != (DType, Rows, Columns, RowStride) || Columns != WholeColumns)
            throw new ArgumentException($"the rows of {source} are not those of {this}", nameof(source));
        Device.Copy(source.Address, Address, (long)Rows * RowStride * DType.SizeBytes);
    }

    /// <summary>Sets all elements to zero, and the padding between rows of a whole tensor.</summary>
    public void Clear()
    {
        if (Columns == WholeColumns)
        {
            Device.Clear(Address, (long)Rows * RowStride * DType.SizeBytes);
            return;
        }
        for (int row = 0; row < Rows; row++) Device.Clear(Address + (nint)((long)row * RowStride * DType.SizeBytes), (long)Columns * DType.SizeBytes);
    }

    /// <inheritdoc/>
    public override string ToString() => $"{DType} [{Rows}, {Columns}]";
}
