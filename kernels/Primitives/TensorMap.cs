namespace BgeMetal.Kernels.Primitives;

/// <summary>A row-major matrix of 16-bit elements and the box of it that one bulk copy moves. What lies outside the matrix is copied as zero.</summary>
/// <param name="Address">The first element, at a multiple of 16 bytes.</param>
/// <param name="Columns">Elements of a row.</param>
/// <param name="Rows">Rows.</param>
/// <param name="StrideBytes">Bytes between the starts of neighbouring rows, a multiple of 16.</param>
/// <param name="BoxRows">Rows of a box, at most 256; its rows are <see cref="TensorMap.BoxColumns"/> elements long.</param>
internal readonly record struct TensorView(long Address, int Columns, int Rows, long StrideBytes, int BoxRows)
{
    // What is looked up at every launch: the address tells nearly all views apart.
    public override int GetHashCode() => (int)(Address >> 4) * 31 + Columns * 7 + Rows;
}

/// <summary>
/// A tensor map: what the bulk copy engine knows of a matrix (a CUtensorMap). Opaque on a GPU, where the driver writes it; devices that only imitate a GPU
/// use <see cref="Readable"/>. It must lie at a multiple of 64 bytes of a kernel's parameters, which a multiple of 128 from the argument struct's start is.
/// </summary>
internal struct TensorMap
{
    /// <summary>The size of a map.</summary>
    public const int SizeBytes = 128;

    /// <summary>Elements of a box's row: 128 bytes, the span of the swizzle.</summary>
    public const int BoxColumns = 64;

    private const long Mark = 0x70614d726f736e54;

#pragma warning disable CS1591
    public long W0, W1, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15;
#pragma warning restore CS1591

    /// <summary>The map of a device without a copy engine: the view itself.</summary>
    public static TensorMap Readable(in TensorView view) => new()
    {
        W0 = Mark,
        W1 = view.Address,
        W2 = view.Columns,
        W3 = view.Rows,
        W4 = view.StrideBytes,
        W5 = view.BoxRows,
    };

    /// <summary>The view of a readable map.</summary>
    /// <exception cref="InvalidOperationException">A driver wrote the map, or nobody did.</exception>
    public readonly TensorView View() => W0 == Mark
        ? new(W1, (int)W2, (int)W3, W4, (int)W5) : throw new InvalidOperationException("the tensor map is not one that can be read");
}
