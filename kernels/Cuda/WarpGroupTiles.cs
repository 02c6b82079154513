using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>128 x 256 x 64, four stages of 48 KB, one block on a multiprocessor: reads fewest bytes a product.</summary>
internal readonly struct WarpGroupTile256 : IWarpGroupTile
{
    /// <summary>Dynamic shared memory: stages, slabs, and two barriers a stage.</summary>
    public const int SharedBytes = 4 * (128 + 256) * 128 + 2 * IWarpGroupTile.Consumers * AccumulatorRows.SlabBytes + 4 * 2 * TransferBarrier.SizeBytes;

    /// <summary>Threads of a block: a group of four warps copies, so that its registers can go to the others.</summary>
    public const int Threads = 384;

    /// <summary>Blocks to fit on a multiprocessor: 168 registers a thread at the start.</summary>
    public const int MinBlocks = 1;

    public static int BlockN => 256;
    public static int ClusterBlocks => 1;
    public static int Stages => 4;
    public static int ProducerRegisters => 40;
    public static int ConsumerRegisters => 232;
    public static int Slabs => 2;
}

/// <summary>128 x 128 x 64, three stages of 32 KB, two blocks on a multiprocessor: one multiplies while the other writes its results.</summary>
internal readonly struct WarpGroupTile128 : IWarpGroupTile
{
    /// <summary>Dynamic shared memory: stages, slabs, and two barriers a stage.</summary>
    public const int SharedBytes = 3 * (128 + 128) * 128 + IWarpGroupTile.Consumers * AccumulatorRows.SlabBytes + 3 * 2 * TransferBarrier.SizeBytes;

    /// <summary>Threads of a block: a single warp copies.</summary>
    public const int Threads = 288;

    /// <summary>Blocks to fit on a multiprocessor: 96 registers a thread, because five of the 18 warps share a quarter of it.</summary>
    public const int MinBlocks = 2;

    public static int BlockN => 128;
    public static int ClusterBlocks => 1;
    public static int Stages => 3;
    public static int ProducerRegisters => 0;
    public static int ConsumerRegisters => 0;
    public static int Slabs => 1;
}

/// <summary>Pairs of blocks like <see cref="WarpGroupTile128"/>: each fetches half of the B that both multiply by, and gets three quarters of the bytes from the second-level cache.</summary>
internal readonly struct WarpGroupPair128 : IWarpGroupTile
{
    /// <summary>Blocks of a cluster.</summary>
    public const int Blocks = 2;

    public static int BlockN => WarpGroupTile128.BlockN;
    public static int ClusterBlocks => Blocks;
    public static int Stages => WarpGroupTile128.Stages;
    public static int ProducerRegisters => WarpGroupTile128.ProducerRegisters;
    public static int ConsumerRegisters => WarpGroupTile128.ConsumerRegisters;
    public static int Slabs => WarpGroupTile128.Slabs;
}
