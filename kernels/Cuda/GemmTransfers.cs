using BgeMetal.Kernels.Primitives;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>One thread's part in copying the tiles of an operand, from one stage to the next.</summary>
internal struct TileSource
{
    private long _address;
    private long _rowStep;
    private long _tileStep;
    private int _target;
    private int _rowsLeft;
    private int _elementsLeft;

    /// <summary>
    /// Starts at depth <paramref name="depth0"/> of the operand's rows (or columns) from <paramref name="start"/> on. Threads are dealt out along
    /// the contiguous dimension, 16 bytes each, so that a warp reads whole lines.
    /// </summary>
    public static TileSource Open<TTile>(long address, int stride, bool depthContiguous, int start, int limit, int depth0, int depth, int block)
        where TTile : struct, ITile
    {
        int chunkShift = depthContiguous ? 3 : block == 128 ? 4 : 3;
        int row = Group.IdxX >> chunkShift, chunk = Group.IdxX & ((1 << chunkShift) - 1);
        long firstRow = depthContiguous ? start + row : depth0 + row, firstElement = (depthContiguous ? depth0 : start) + chunk * 8;
        return new TileSource
        {
            _address = address + (firstRow * stride + firstElement) * 2,
            _rowStep = (long)(TTile.Threads >> chunkShift) * stride * 2,
            _tileStep = depthContiguous ? TTile.BlockK * 2 : (long)TTile.BlockK * stride * 2,
            _target = (row << (chunkShift + 4)) + ((chunk ^ (row & 7)) << 4),
            _rowsLeft = (int)((depthContiguous ? limit : depth) - firstRow),
            _elementsLeft = (int)((depthContiguous ? depth : limit) - firstElement),
        };
    }

    /// <summary>Issues the copies of one stage to the tile at <paramref name="shared"/> and moves on to the next depth.</summary>
    public void Fetch<TTile>(int shared, bool depthContiguous, int block) where TTile : struct, ITile
    {
        int rows = _elementsLeft > 0 ? _rowsLeft : 0;
        int shift = depthContiguous ? 3 : block == 128 ? 4 : 3, rowStep = TTile.Threads >> shift;
        AsyncCopy.Rows(shared + _target, _address, _rowStep, rows, (depthContiguous ? block : TTile.BlockK) / rowStep, rowStep, rowStep << (shift + 4));
        _address += _tileStep;
        if (depthContiguous) _elementsLeft -= TTile.BlockK;
        else _rowsLeft -= TTile.BlockK;
    }
}

/// <summary>The way out of a matrix product: a finished tile in shared memory meets the epilogue row by row.</summary>
internal static class TileOutput
{
    /// <summary>
    /// Hands the tile to the epilogue; rows are <paramref name="stride"/> binary32 apart from the shared address on, and the tile's first element is
    /// (<paramref name="row0"/>, <paramref name="column0"/>) of the product.
    /// </summary>
    public static void Finish<TTile, TEpilogue>(TEpilogue epilogue, int shared, int stride, int row0, int column0, int rows, int columns)
        where TTile : struct, ITile where TEpilogue : unmanaged, IEpilogue
    {
        int chunkShift = TTile.BlockN == 128 ? 4 : 3, step = TTile.Threads >> chunkShift;
        int first = Group.IdxX >> chunkShift, column = (Group.IdxX & ((1 << chunkShift) - 1)) * 8, split = Grid.IdxZ;
        bool whole = epilogue.Vectorized != 0 & column0 + column + 8 <= columns;
        for (int r = first; r < TTile.BlockM; r += step)
        {
            if (row0 + r >= rows) continue;
            int address = shared + (r * stride + column) * 4;
            if (whole)
                epilogue.Write8(SharedBlock.Load8(address), row0 + r, column0 + column, split);
            else
                for (int c = 0; c < 8; c++)
                    if (column0 + column + c < columns)
                        epilogue.Write(SharedBlock.Load(address + c * 4), row0 + r, column0 + column + c, split);
        }
    }
}
