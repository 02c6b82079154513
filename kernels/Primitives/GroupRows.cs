using ILGPU;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A group's 64 rows as first operand of its products, in registers (<see cref="Fragments8"/>, <see cref="Fragments16"/>) or in shared memory (<see cref="FragmentAddress"/>).
/// With 64 columns of scores a product reads as many bytes of shared memory for its rows as for its columns, and at the full rate of the tensor cores both together are all that
/// shared memory can deliver: rows in registers halve that, for a register a thread for each four columns of the head.
/// </summary>
internal struct GroupRows<TRows> where TRows : unmanaged, IAccumulator
{
    private TRows _fragments;
    private int _address;

    /// <summary>The group's rows of the block's tile at <paramref name="tile"/>; the warp's own begin with <paramref name="warpRow"/>, a multiple of 16.</summary>
    public static GroupRows<TRows> Open<T, THead>(int tile, int warpRow) where T : unmanaged, IElement where THead : struct, IHead
    {
        GroupRows<TRows> rows = new() { _address = tile + (warpRow & ~63) * HeadTile.RowBytes<T, THead>() };
        if (TRows.Length > 1)
            rows._fragments = HeadMma.LoadRows<TRows, T, THead>(tile + warpRow * HeadTile.RowBytes<T, THead>() + HeadTile.LaneOfRows<T, THead>(Group.IdxX & 31));
        return rows;
    }

    /// <summary>Issues scores = rows * tile^T, as <see cref="WarpGroupHead.Multiply"/>. Use as <c>scores = Multiply(scores, ..)</c>.</summary>
    public readonly TScores Multiply<TScores, T, THead>(TScores scores, int tile) where TScores : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        if (TRows.Length > 1) return WarpGroupHead.MultiplyRows<TScores, TRows, T, THead>(scores, _fragments, tile);
        return WarpGroupHead.Multiply<TScores, T, THead>(scores, _address, tile);
    }
}
