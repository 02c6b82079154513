using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>How the log-sum-exp of rows of scores runs: which kernel, which tile, and how many tiles of columns a block goes through.</summary>
internal readonly record struct ScorePlan(KernelDevice Device, bool TensorCores, bool LargeTile, int Chunks, int ChunkTiles, ScoreForwardArguments Arguments)
{
    // More chunks would only make the second pass longer.
    private const int MostChunks = 64;

    /// <summary>The large tile where there are enough of them for every multiprocessor; then the chunks that finish first.</summary>
    /// <exception cref="ArgumentException">The workspace has no room for one chunk, 2 * rows elements.</exception>
    public static ScorePlan Choose<T>(KernelDevice device, int rows, int columns, int dim, DeviceMatrix<T> x, DeviceMatrix<T> y, Workspace workspace)
        where T : unmanaged, IElement
    {
        if (workspace.Length < 2L * rows) throw new ArgumentException($"a workspace of {2L * rows} elements is needed, there are {workspace.Length}", nameof(workspace));
        bool tensorCores = T.SizeShift == 1 && x.IsAligned && y.IsAligned && dim % 8 == 0 && device.SharedMemoryPerBlock >= Tile64.SharedBytes;
        bool large = !tensorCores || (device.SharedMemoryPerBlock >= Tile128.SharedBytes && (long)Tiles(rows, 128) * Tiles(columns, 128) >= device.MultiProcessors);
        int block = large ? 128 : 64, depth = tensorCores ? 64 : TileExact.BlockK;
        int rowTiles = Tiles(rows, block), tiles = Tiles(columns, block), most = (int)Math.Min(Math.Min(tiles, MostChunks), workspace.Length / (2L * rows));
        int chunkTiles = ChooseChunk(rowTiles, tiles, most, 2L * device.MultiProcessors);
        return new(device, tensorCores, large, (tiles + chunkTiles - 1) / chunkTiles, chunkTiles, new()
        {
            X = x.Start.Address,
            Y = y.Start.Address,
            StrideX = checked((int)x.Stride),
            StrideY = checked((int)y.Stride),
            Rows = rows,
            Columns = columns,
            Dim = dim,
            Depths = (dim + depth - 1) / depth,
            Tiles = tiles,
            ChunkTiles = chunkTiles,
            Partial = workspace.Start,
        });
    }

    /// <summary>Enqueues the first pass; scores are multiplied with <paramref name="factor"/>.</summary>
    public void Run<T>(float factor) where T : unmanaged, IElement
    {
        ScoreForwardArguments arguments = Arguments;
        arguments.Scale = factor * DeviceMath.Log2E;
        GridSize grid = new(Tiles(arguments.Rows, LargeTile ? 128 : 64), Chunks);
        if (!TensorCores) Device.Launch(ScoreSoftmaxKernels.ForwardExact<T>, grid, arguments);
        else if (LargeTile) Device.Launch(ScoreSoftmaxKernels.Forward<T, Tile128, Accumulator128>, grid, arguments);
        else Device.Launch(ScoreSoftmaxKernels.Forward<T, Tile64, Accumulator32>, grid, arguments);
    }

    // A wave of blocks takes as long as its tiles, plus about half a tile to fill the pipeline and to leave.
    private static int ChooseChunk(int rowTiles, int tiles, int mostChunks, long slots)
    {
        (int best, double least) = (tiles, double.MaxValue);
        for (int chunks = 1; chunks <= mostChunks; chunks++)
        {
            int chunkTiles = (tiles + chunks - 1) / chunks;
            long blocks = (long)rowTiles * ((tiles + chunkTiles - 1) / chunkTiles), waves = (blocks + slots - 1) / slots;
            double time = waves * (chunkTiles + 0.5);
            if (time < least) (best, least) = (chunkTiles, time);
        }
        return best;
    }

    private static int Tiles(int size, int tile) => (size + tile - 1) / tile;
}
