using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Few queries against many binary32 rows.</summary>
internal struct TopKScanArguments
{
    /// <summary>[queries, dim] and [rows, dim], rows at multiples of 16 bytes.</summary>
    public DeviceMatrix<FP32> Queries, Corpus;

    /// <summary>What consumes the scores.</summary>
    public TopKTiles Tiles;

    /// <summary>Sizes; dim is a multiple of 4.</summary>
    public int QueryCount, Rows;

    /// <summary>The length of a row.</summary>
    public long Dim;
}

/// <summary>The tile that a block of the scan computes: 8 queries, 128 corpus rows.</summary>
internal readonly struct TileScan : ITile
{
    public static int BlockM => 8;
    public static int BlockN => 128;
    public static int BlockK => 32;
    public static int WarpM => 8;
    public static int WarpN => 32;
    public static int WarpColumnsShift => 2;
    public static int Threads => 128;
    public static int Stages => 4;
}

/// <summary>
/// Binary32 scores at memory speed where there are too few queries for a matrix tile: a thread takes a corpus row, which cp.async brings in through shared
/// memory, 32 columns a stage. Multiply-adds run along the row in order, as in <see cref="ExactGemm"/>, so the scores are the same bits. Rows of
/// a stage are 36 elements apart: eight neighbouring threads read 16 bytes each from different banks. Grid: (ceil(queries / 8), ceil(rows / 128)).
/// </summary>
internal static class TopKScan
{
    /// <summary>From more queries on the matrix tile is faster.</summary>
    public const int MostQueries = 16;

    private const int Pitch = 36 * 4, StageBytes = (128 + 8) * Pitch;

    /// <summary>Dynamic shared memory: the stages, which the tile of scores reuses.</summary>
    public const int SharedBytes = 4 * StageBytes + SharedBlock.AlignmentSlack;

    [CudaKernel("TopK", KernelDirection.Update, 128, Elements = ElementTypes.None, SharedBytes = SharedBytes, MinBlocks = 2)]
    public static void Score(TopKScanArguments arguments)
    {
        int shared = SharedBlock.Open(), thread = Group.IdxX;
        int query0 = Grid.IdxX * TileScan.BlockM, row0 = Grid.IdxY * TileScan.BlockN;
        int stages = ((int)arguments.Dim + TileScan.BlockK - 1) >> 5;
        for (int s = 0; s < TileScan.Stages - 1; s++) Fetch(arguments, shared + s * StageBytes, query0, row0, s);
        Float8 sums = Float8.All(0);
        int read = shared, write = shared + (TileScan.Stages - 1) * StageBytes, end = shared + TileScan.Stages * StageBytes;
        for (int stage = 0; stage < stages; stage++)
        {
            AsyncCopy.Wait(TileScan.Stages - 2);
            Group.Barrier();
            Fetch(arguments, write, query0, row0, stage + TileScan.Stages - 1);
            for (int k = 0; k < TileScan.BlockK * 4; k += 32) sums = Multiply(sums, read + thread * Pitch + k, read + 128 * Pitch + k);
            read += StageBytes;
            if (read == end) read = shared;
            write += StageBytes;
            if (write == end) write = shared;
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        int stride = WarpMma.StagingStride(TileScan.BlockN) * 4, mine = shared + (thread << 2);
        SharedBlock.Store(mine, sums.A);
        SharedBlock.Store(mine + stride, sums.B);
        SharedBlock.Store(mine + stride * 2, sums.C);
        SharedBlock.Store(mine + stride * 3, sums.D);
        SharedBlock.Store(mine + stride * 4, sums.E);
        SharedBlock.Store(mine + stride * 5, sums.F);
        SharedBlock.Store(mine + stride * 6, sums.G);
        SharedBlock.Store(mine + stride * 7, sums.H);
        Group.Barrier();
        TopKKernels.Keep<TileScan>(arguments.Tiles, shared, query0, row0, arguments.QueryCount, arguments.Rows);
    }

    // Eight threads a row, 16 bytes each. Beyond the end of a row, and beyond the last one, there are zeros.
    private static void Fetch(TopKScanArguments arguments, int target, int query0, int row0, int stage)
    {
        int row = Group.IdxX >> 3, chunk = (Group.IdxX & 7) << 2, column = stage * TileScan.BlockK + chunk;
        target += row * Pitch + (chunk << 2);
        bool inside = column < arguments.Dim;
        int rows = inside ? arguments.Rows - row0 - row : 0;
        AsyncCopy.Rows(target, arguments.Corpus.Start.At((row0 + (long)row) * arguments.Corpus.Stride + column), arguments.Corpus.Stride * 64, rows, 8, 16, 16 * Pitch);
        if (row < TileScan.BlockM)
        {
            int queries = inside ? arguments.QueryCount - query0 - row : 0;
            AsyncCopy.Rows(target + 128 * Pitch, arguments.Queries.Start.At((query0 + (long)row) * arguments.Queries.Stride + column), 0, queries, 1, 1, 0);
        }
        AsyncCopy.Commit();
    }

    private static Float8 Multiply(Float8 sums, int row, int queries)
    {
        Float8 values = SharedBlock.Load8(row);
        return new Float8
        {
            A = Chain(sums.A, values, queries),
            B = Chain(sums.B, values, queries + Pitch),
            C = Chain(sums.C, values, queries + Pitch * 2),
            D = Chain(sums.D, values, queries + Pitch * 3),
            E = Chain(sums.E, values, queries + Pitch * 4),
            F = Chain(sums.F, values, queries + Pitch * 5),
            G = Chain(sums.G, values, queries + Pitch * 6),
            H = Chain(sums.H, values, queries + Pitch * 7),
        };
    }

    private static float Chain(float sum, Float8 x, int query)
    {
        Float8 y = SharedBlock.Load8(query);
        sum = DeviceMath.Fma(x.A, y.A, sum);
        sum = DeviceMath.Fma(x.B, y.B, sum);
        sum = DeviceMath.Fma(x.C, y.C, sum);
        sum = DeviceMath.Fma(x.D, y.D, sum);
        sum = DeviceMath.Fma(x.E, y.E, sum);
        sum = DeviceMath.Fma(x.F, y.F, sum);
        sum = DeviceMath.Fma(x.G, y.G, sum);
        return DeviceMath.Fma(x.H, y.H, sum);
    }
}
