namespace BgeMetal.Kernels.Primitives;

/// <summary>The columns of an attention head as a kernel sees them: a compile-time constant. Narrower heads are filled up with zeros.</summary>
internal interface IHead
{
    /// <summary>32, 64 or 128.</summary>
    static abstract int Columns { get; }
}

/// <summary>Heads of 32 columns and fewer: BGE small and MiniLM.</summary>
internal readonly struct Head32 : IHead
{
    public static int Columns => 32;
}

/// <summary>Heads of 40 to 64 columns: BGE base and large.</summary>
internal readonly struct Head64 : IHead
{
    public static int Columns => 64;
}

/// <summary>Heads of 72 to 128 columns.</summary>
internal readonly struct Head128 : IHead
{
    public static int Columns => 128;
}

/// <summary>
/// Rows of one head in shared memory, in 16-byte chunks whose order within 128 bytes depends on the row, so that eight neighbouring rows keep the same
/// chunk in eight different bank groups: chunk c of row r lies at c ^ (r &amp; 7), and in rows of 64 bytes, two of which share 128, at c ^ (r / 2 &amp; 3).
/// The tile starts at a multiple of 128 bytes, so that a step along a row is an XOR with a constant within 128 bytes and an added constant beyond.
/// </summary>
internal static class HeadTile
{
    /// <summary>Bytes of a row.</summary>
    public static int RowBytes<T, THead>() where T : unmanaged, IElement where THead : struct, IHead => THead.Columns << T.SizeShift;

    /// <summary>The offset of a chunk.</summary>
    public static int Place<T, THead>(int row, int chunk) where T : unmanaged, IElement where THead : struct, IHead =>
        row * RowBytes<T, THead>() + ((chunk >> 3) << 7) + (((chunk & 7) ^ (RowBytes<T, THead>() == 64 ? (row >> 1) & 3 : row & 7)) << 4);

    /// <summary>This lane's offset when sixteen rows of the tile are the first operand: for <see cref="HeadMma.LoadRows"/>.</summary>
    public static int LaneOfRows<T, THead>(int lane) where T : unmanaged, IElement where THead : struct, IHead =>
        T.SizeShift == 2 ? Place<T, THead>(lane >> 2, 0) : Place<T, THead>(lane & 15, lane >> 4);

    /// <summary>This lane's offset when the tile's rows are the columns of the second operand: for <see cref="HeadMma.Multiply"/>.</summary>
    public static int LaneOfColumns<T, THead>(int lane) where T : unmanaged, IElement where THead : struct, IHead =>
        T.SizeShift == 2 ? Place<T, THead>((lane & 3) << 1, 0) : Place<T, THead>((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);

    /// <summary>This lane's offset when the tile's rows are the depth of the second operand: for <see cref="HeadMma.Accumulate"/>.</summary>
    public static int LaneOfDepth<T, THead>(int lane) where T : unmanaged, IElement where THead : struct, IHead =>
        T.SizeShift == 2 ? (lane & 3) << 3 : Place<T, THead>((lane & 7) + (((lane >> 3) & 1) << 3), lane >> 4);

    /// <summary>This lane's offset when the warp writes sixteen rows of accumulators: for <see cref="WarpGroupHead.Store"/>.</summary>
    public static int LaneOfStores<T, THead>(int lane) where T : unmanaged, IElement where THead : struct, IHead => Place<T, THead>(lane >> 2, 0) + ((lane & 3) << 2);
}
