namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// How a warp-specialised block divides a matrix product: two groups of four warps multiply, 64 rows each, and the warps behind them copy. Compile-time constants.
/// </summary>
internal interface IWarpGroupTile
{
    /// <summary>Rows of the output tile of a block.</summary>
    const int BlockM = 128;

    /// <summary>Depth of one pipeline stage: 128 bytes of a 16-bit type.</summary>
    const int BlockK = 64;

    /// <summary>Warps that multiply: the first of the block.</summary>
    const int Consumers = 8;

    /// <summary>Bytes of a box of 64 x 64 elements, and of the 64 rows that a warp group multiplies, whichever dimension is contiguous.</summary>
    const int BoxBytes = 64 * 128;

    /// <summary>Columns of the output tile, a multiple of 64, at most 256.</summary>
    static abstract int BlockN { get; }

    /// <summary>Blocks of a cluster, which take output tiles one below the other and fetch their one B together, an equal part each; 1 where a block is on its own.</summary>
    static abstract int ClusterBlocks { get; }

    /// <summary>Stages of the copy pipeline.</summary>
    static abstract int Stages { get; }

    /// <summary>Registers that a thread that copies keeps; 0 where all threads keep what they start with.</summary>
    static abstract int ProducerRegisters { get; }

    /// <summary>Registers that a thread that multiplies asks for.</summary>
    static abstract int ConsumerRegisters { get; }

    /// <summary>Slabs of 2 KB that each multiplying warp has for turning its accumulators into rows: 1 or 2.</summary>
    static abstract int Slabs { get; }
}
