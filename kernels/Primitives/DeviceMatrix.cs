namespace BgeMetal.Kernels.Primitives;

/// <summary>A row-major matrix in device memory; its sizes are known to whoever uses it.</summary>
public readonly struct DeviceMatrix<T> where T : unmanaged, IElement
{
    /// <summary>A matrix whose rows start <paramref name="stride"/> elements apart.</summary>
    public DeviceMatrix(DevicePointer<T> start, long stride)
    {
        Start = start;
        Stride = stride;
    }

    /// <summary>Element [0, 0].</summary>
    public DevicePointer<T> Start { get; }

    /// <summary>Elements between the starts of neighbouring rows.</summary>
    public long Stride { get; }

    /// <summary>True when there is no matrix.</summary>
    public bool IsNull => Start.Address == 0;

    /// <summary>True when every row starts at a multiple of 16 bytes.</summary>
    public bool IsAligned => ((Start.Address | (Stride << T.SizeShift)) & 15) == 0;

    internal float Load(int row, int column) => Start.Load(row * Stride + column);

    internal Float8 Load8(int row, int column) => Start.Load8(row * Stride + column);

    internal void Store(int row, int column, float value) => Start.Store(row * Stride + column, value);

    internal void Store8(int row, int column, Float8 value) => Start.Store8(row * Stride + column, value);
}
