using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>The operands of C = A B for <see cref="WarpGroupGemm"/>. The maps come first: the hardware wants them at multiples of 64 bytes.</summary>
internal struct WarpGroupArguments<TEpilogue> where TEpilogue : unmanaged
{
    /// <summary>The operands.</summary>
    public TensorMap A, B;

    /// <summary>Sizes of the product.</summary>
    public int M, N, K;

    /// <summary>Depth of one split, a multiple of <see cref="IWarpGroupTile.BlockK"/>.</summary>
    public int SplitDepth;

    /// <summary>Output tiles below and beside each other, and tiles of all splits together; where clusters share B, those of one count as one.</summary>
    public int TilesM, TilesN, Items;

    /// <summary>Consumes the product.</summary>
    public TEpilogue Epilogue;
}

/// <summary>
/// One output tile of one split, and where it lies. Blocks (or clusters of them, for tiles one below the other) take every n-th item, in an order in which neighbours share operands: down
/// <see cref="GroupRows"/> row tiles, then one column on; a split's tiles come before the next split's. What runs at the same time then reads a patch of
/// each operand that the second-level cache holds.
/// </summary>
internal struct WarpGroupWork
{
    /// <summary>Row tiles of a group, or clusters of them.</summary>
    public const int GroupRows = 8;

    /// <summary>The tile's first element and depth, the end of its depth, and the number of its split.</summary>
    public int Row, Column, Depth, DepthEnd, Split;

    /// <summary>What block <paramref name="rank"/> of a cluster does of item <paramref name="item"/> of a product; its rows may lie behind the last.</summary>
    public static WarpGroupWork At<TTile, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int item, int rank)
        where TTile : struct, IWarpGroupTile where TEpilogue : unmanaged
    {
        uint tiles = (uint)(arguments.TilesM * arguments.TilesN), split = (uint)item / tiles, tile = (uint)item - split * tiles;
        uint groupTiles = (uint)(GroupRows * arguments.TilesN), group = tile / groupTiles, within = tile - group * groupTiles;
        uint rows = Math.Min(GroupRows, (uint)arguments.TilesM - group * GroupRows), column = within / rows;
        int depth = (int)split * arguments.SplitDepth;
        return new WarpGroupWork
        {
            Row = ((int)(group * GroupRows + within - column * rows) * TTile.ClusterBlocks + rank) * IWarpGroupTile.BlockM,
            Column = (int)column * TTile.BlockN,
            Depth = depth,
            DepthEnd = Math.Min(depth + arguments.SplitDepth, arguments.K),
            Split = (int)split,
        };
    }
}
