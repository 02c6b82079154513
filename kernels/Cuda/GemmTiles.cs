using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>128 x 128 x 64, four warps of 64 x 64 (128 accumulators a thread), three stages of 32 KB: for products that fill the device.</summary>
internal readonly struct Tile128 : ITile
{
    /// <summary>Dynamic shared memory: the stages, which the epilogue's staging tile reuses.</summary>
    public const int SharedBytes = 3 * (128 + 128) * 64 * 2 + SharedBlock.AlignmentSlack;

    /// <summary>Blocks to fit on a multiprocessor: at most 256 registers a thread.</summary>
    public const int MinBlocks = 2;

    public static int BlockM => 128;
    public static int BlockN => 128;
    public static int BlockK => 64;
    public static int WarpM => 64;
    public static int WarpN => 64;
    public static int WarpColumnsShift => 1;
    public static int Threads => 128;
    public static int Stages => 3;
}

/// <summary>64 x 64 x 64, four warps of 32 x 32 (32 accumulators a thread), four stages of 16 KB: for small and thin products.</summary>
internal readonly struct Tile64 : ITile
{
    /// <summary>Dynamic shared memory: the stages, which the epilogue's staging tile reuses.</summary>
    public const int SharedBytes = 4 * (64 + 64) * 64 * 2 + SharedBlock.AlignmentSlack;

    /// <summary>Blocks to fit on a multiprocessor: at most 168 registers a thread.</summary>
    public const int MinBlocks = 3;

    public static int BlockM => 64;
    public static int BlockN => 64;
    public static int BlockK => 64;
    public static int WarpM => 32;
    public static int WarpN => 32;
    public static int WarpColumnsShift => 1;
    public static int Threads => 128;
    public static int Stages => 4;
}

/// <summary>128 x 128 x 8, 256 threads of 8 x 8, four stages of binary32: products without tensor cores.</summary>
internal readonly struct TileExact : ITile
{
    /// <summary>Elements between the starts of a stage's rows, which run along M or N.</summary>
    public const int Pitch = 132;

    /// <summary>Bytes of one operand's stage.</summary>
    public const int OperandBytes = 8 * Pitch * 4;

    /// <summary>Dynamic shared memory: the epilogue's staging tile, larger than the four stages.</summary>
    public const int SharedBytes = 128 * (128 + 8) * 4 + SharedBlock.AlignmentSlack;

    /// <summary>Blocks to fit on a multiprocessor: at most 128 registers a thread.</summary>
    public const int MinBlocks = 2;

    public static int BlockM => 128;
    public static int BlockN => 128;
    public static int BlockK => 8;
    public static int WarpM => 8;
    public static int WarpN => 8;
    public static int WarpColumnsShift => 0;
    public static int Threads => 256;
    public static int Stages => 4;
}
