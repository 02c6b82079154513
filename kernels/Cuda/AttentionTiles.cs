using BgeMetal.Kernels.Primitives;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>How attention's kernels divide their work: compile-time constants.</summary>
internal static class AttentionTile
{
    /// <summary>Threads of a block: four warps of sixteen rows.</summary>
    public const int Threads = 128;

    /// <summary>Rows that a block owns.</summary>
    public const int Rows = 64;

    /// <summary>Dynamic shared memory of so many rows of a head, in bytes, as an attribute's argument.</summary>
    public const int Row32 = 64, Row64 = 128, Row128 = 256;
}

/// <summary>Which part of a packed batch a block works on. Blocks with the same sequence and head are neighbours and share what they stream through the cache.</summary>
internal struct AttentionPlace
{
    /// <summary>The sequence, and the head.</summary>
    public int Sequence, Head;

    /// <summary>The first of the rows that the block owns, counted from the sequence's own first row.</summary>
    public int Row0;

    /// <summary>Where the sequence's queries begin and how many there are.</summary>
    public int FirstQuery, Queries;

    /// <summary>Where its keys begin and how many there are.</summary>
    public int FirstKey, Keys;

    /// <summary>Reads the place of this block, which owns <paramref name="rows"/> rows; X counts tiles of each sequence, Y heads.</summary>
    public static AttentionPlace Open(DevicePointer<int> queryOffsets, DevicePointer<int> keyOffsets, int tiles, int rows = AttentionTile.Rows)
    {
        int sequence = (int)((uint)Grid.IdxX / (uint)tiles), firstQuery = queryOffsets.Load(sequence), firstKey = keyOffsets.Load(sequence);
        return new()
        {
            Sequence = sequence,
            Head = Grid.IdxY,
            Row0 = (Grid.IdxX - sequence * tiles) * rows,
            FirstQuery = firstQuery,
            Queries = queryOffsets.Load(sequence + 1) - firstQuery,
            FirstKey = firstKey,
            Keys = keyOffsets.Load(sequence + 1) - firstKey,
        };
    }
}

/// <summary>One thread's part in copying rows of one head to shared memory, 16 bytes at a time, and back.</summary>
internal struct HeadRows
{
    private long _address;
    private long _stride;
    private int _target;
    private int _row;
    private int _inside;

    /// <summary>Opens the head's columns of the rows from <paramref name="firstRow"/> on.</summary>
    public static HeadRows Open<T, THead>(DeviceMatrix<T> matrix, int firstRow, int head, int headDim) where T : unmanaged, IElement where THead : struct, IHead
    {
        int shift = ChunkShift<T, THead>(), chunk = Group.IdxX & ((1 << shift) - 1), row = Group.IdxX >> shift;
        return new()
        {
            _address = matrix.Start.At(firstRow * matrix.Stride + head * headDim) + (chunk << 4),
            _stride = matrix.Stride << T.SizeShift,
            _target = HeadTile.Place<T, THead>(row, chunk),
            _row = row,
            _inside = (headDim << T.SizeShift) - (chunk << 4),
        };
    }

    /// <summary>
    /// Issues the copies of <paramref name="count"/> rows from <paramref name="row0"/> on to the tile at <paramref name="shared"/>; rows from
    /// <paramref name="limit"/> on and columns behind the head's last become zero. The count and the block's <paramref name="threads"/> are compile-time constants.
    /// </summary>
    public readonly void Fetch<T, THead>(int shared, int row0, int limit, int count, int threads = AttentionTile.Threads) where T : unmanaged, IElement where THead : struct, IHead
    {
        int step = threads >> ChunkShift<T, THead>(), rowBytes = HeadTile.RowBytes<T, THead>();
        long source = _address + (row0 + _row) * _stride;
        int rows = limit - row0 - _row;
        AsyncCopy.Rows(shared + _target, source, step * _stride, _inside > 0 ? rows : 0, count / step, step, step * rowBytes);
        if (rowBytes > 256)
            AsyncCopy.Rows(shared + _target + 256, source + 256, step * _stride, _inside > 256 ? rows : 0, count / step, step, step * rowBytes);
    }

    /// <summary>
    /// Rounds and stores the block's <see cref="AttentionTile.Rows"/> rows of sums, which lie in shared memory as binary32 with rows of THead.Columns + 8 elements.
    /// </summary>
    public static void Store<T, THead>(int shared, DeviceMatrix<T> matrix, int firstRow, int row0, int limit, int head, int headDim)
        where T : unmanaged, IElement where THead : struct, IHead
    {
        int shift = THead.Columns == 128 ? 4 : THead.Columns == 64 ? 3 : 2, column = (Group.IdxX & ((1 << shift) - 1)) << 3;
        if (column >= headDim) return;
        for (int row = Group.IdxX >> shift; row < AttentionTile.Rows; row += AttentionTile.Threads >> shift)
            if (row0 + row < limit)
                matrix.Start.Store8((firstRow + row0 + row) * matrix.Stride + head * headDim + column, SharedBlock.Load8(shared + (row * (THead.Columns + 8) + column) * 4));
    }

    /// <summary>
    /// Rounds and stores a warp's sixteen rows of sums, from the block's row <paramref name="warpRow"/> on, by way of the same rows of the half-precision tile at <paramref name="tile"/>, which
    /// nobody else reads any more.
    /// </summary>
    public static void StoreSums<T, THead, TSum>(TSum sums, int tile, int warpRow, DeviceMatrix<T> matrix, int firstRow, int row0, int limit, int head, int headDim)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator
    {
        int shift = ChunkShift<T, THead>(), lane = Group.IdxX & 31, chunk = lane & ((1 << shift) - 1);
        int corner = tile + warpRow * HeadTile.RowBytes<T, THead>() + HeadTile.LaneOfStores<T, THead>(lane);
        if (THead.Columns == 32) WarpGroupHead.Store<Fragments8, T, THead>(WarpGroupHead.Pack<Fragments8, TSum, T>(sums), corner);
        else WarpGroupHead.Store<Fragments16, T, THead>(WarpGroupHead.Pack<Fragments16, TSum, T>(sums), corner);
        Warp.Barrier();
        if (chunk << 3 >= headDim) return;
        for (int step = 0; step < 16; step += 32 >> shift)
        {
            int row = warpRow + step + (lane >> shift);
            if (row0 + row < limit)
                SharedBlock.CopyOut(tile + HeadTile.Place<T, THead>(row, chunk), matrix.Start.At((firstRow + row0 + row) * matrix.Stride + head * headDim) + (chunk << 4));
        }
    }

    /// <summary>
    /// Writes rowsum(x * y) of a block's <paramref name="count"/> rows of two half-precision tiles to <paramref name="target"/>, one binary32 a row. A thread reads what its own part of
    /// <see cref="Fetch"/> brought and needs no barrier for it. The count and the block's <paramref name="threads"/> are compile-time constants.
    /// </summary>
    public static void Products<T, THead>(int x, int y, int target, int count, int threads) where T : unmanaged, IElement where THead : struct, IHead
    {
        int shift = ChunkShift<T, THead>(), chunk = Group.IdxX & ((1 << shift) - 1);
        for (int row0 = 0; row0 < count; row0 += threads >> shift)
        {
            int row = row0 + (Group.IdxX >> shift), place = HeadTile.Place<T, THead>(row, chunk);
            float sum = WarpShuffle.QuadSum(SharedBlock.LoadHalves<T>(x + place).Dot(SharedBlock.LoadHalves<T>(y + place)));
            if (shift == 3) sum += Interop.IntAsFloat(WarpShuffle.Xor(Interop.FloatAsInt(sum), 4));
            if (chunk == 0) SharedBlock.Store(target + (row << 2), sum);
        }
    }

    /// <summary>log2 of the threads side by side: at most sixteen, so that a thread's rows are eight apart or more and its chunk lies at the same place in all of them.</summary>
    public static int ChunkShift<T, THead>() where T : unmanaged, IElement where THead : struct, IHead =>
        HeadTile.RowBytes<T, THead>() == 64 ? 2 : HeadTile.RowBytes<T, THead>() == 128 ? 3 : 4;
}

/// <summary>
/// <see cref="HeadRows"/> that come one tile after another: a pointer that advances, where computing each tile's place anew would take as many instructions as a third of its softmax. Rows of
/// at most 256 bytes.
/// </summary>
internal struct HeadStream
{
    private long _next;
    private long _stride;
    private int _target;
    private int _left;

    /// <summary>Opens the head's columns of <paramref name="rows"/> rows from <paramref name="firstRow"/> on.</summary>
    public static HeadStream Open<T, THead>(DeviceMatrix<T> matrix, int firstRow, int rows, int head, int headDim) where T : unmanaged, IElement where THead : struct, IHead
    {
        int shift = HeadRows.ChunkShift<T, THead>(), chunk = Group.IdxX & ((1 << shift) - 1), row = Group.IdxX >> shift;
        return new()
        {
            _next = matrix.Start.At((firstRow + row) * matrix.Stride + head * headDim) + (chunk << 4),
            _stride = matrix.Stride << T.SizeShift,
            _target = HeadTile.Place<T, THead>(row, chunk),
            _left = chunk << 4 < headDim << T.SizeShift ? rows - row : 0,
        };
    }

    /// <summary>
    /// Issues the copies of the next <paramref name="count"/> rows to the tile at <paramref name="shared"/>; rows behind the last and columns behind the head's last become zero. The count
    /// and the block's <paramref name="threads"/> are compile-time constants.
    /// </summary>
    public void Fetch<T, THead>(int shared, int count, int threads) where T : unmanaged, IElement where THead : struct, IHead
    {
        int step = threads >> HeadRows.ChunkShift<T, THead>();
        AsyncCopy.Rows(shared + _target, _next, step * _stride, _left, count / step, step, step * HeadTile.RowBytes<T, THead>());
        _next += count * _stride;
        _left -= count;
    }
}
