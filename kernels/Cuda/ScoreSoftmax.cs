using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Which column is each row's right one.</summary>
internal readonly struct ScoreTargets(DevicePointer<int> columns, int step, int first)
{
    /// <summary>Each row's column, negative for a row that does not count; or null for row * <see cref="Step"/>.</summary>
    public readonly DevicePointer<int> Columns = columns;

    /// <summary>See <see cref="Columns"/>.</summary>
    public readonly int Step = step;

    /// <summary>The number of the first column given, where only a part of them is.</summary>
    public readonly int First = first;

    /// <summary>The right column among all columns; negative for a row that does not count.</summary>
    public int Of(int row) => Columns.IsNull ? row * Step : Columns.Load(row);
}

/// <summary>Scores x y^T of rows against columns, and where the pieces of their softmax go.</summary>
internal struct ScoreForwardArguments
{
    /// <summary>Byte addresses of x [rows, dim] and y [columns, dim].</summary>
    public long X, Y;

    /// <summary>Elements between the starts of neighbouring rows.</summary>
    public int StrideX, StrideY;

    /// <summary>Sizes.</summary>
    public int Rows, Columns, Dim;

    /// <summary>Stages of depth that one tile takes.</summary>
    public int Depths;

    /// <summary>Tiles side by side, and how many of them a block goes through.</summary>
    public int Tiles, ChunkTiles;

    /// <summary>What scores are multiplied with to become exponents of 2.</summary>
    public float Scale;

    /// <summary>[chunks][2][rows] receives each row's largest score and the sum of exponentials relative to it.</summary>
    public DevicePointer<FP32> Partial;
}

/// <summary>Puts the pieces of each row together.</summary>
internal struct ScoreCombineArguments<T> where T : unmanaged, IElement
{
    /// <summary>As in the first pass.</summary>
    public DeviceMatrix<T> X, Y;

    /// <summary>What the first pass wrote, and the results [rows].</summary>
    public DevicePointer<FP32> Partial, RowLoss, LogSumExp;

    /// <summary>The right columns.</summary>
    public ScoreTargets Targets;

    /// <summary>Sizes, and whether 16-byte accesses are allowed.</summary>
    public int Rows, Chunks, Dim, Vectorized;

    /// <summary>What scores are multiplied with, and the same for exponents of 2.</summary>
    public float Factor, Scale;
}

/// <summary>
/// Log-sum-exp of rows of scores that never exist as a matrix. A block keeps a tile of rows and goes through a chunk of columns: the copy pipeline runs
/// on from one tile of columns to the next without draining, and a finished tile of scores goes from the accumulators straight into each lane's own
/// online softmax, so nothing but the operands passes through shared memory. Lanes and warps that share a row meet once, at the end of the chunk; chunks
/// meet in <see cref="Combine"/>, in a fixed order. The right column's score is one inner product a row and is taken there.
/// </summary>
internal static class ScoreSoftmaxKernels
{
    [CudaKernel("InfoNce", KernelDirection.Forward, 128, typeof(Tile128), typeof(Accumulator128), Elements = ElementTypes.Low,
        SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("InfoNce", KernelDirection.Forward, 128, typeof(Tile64), typeof(Accumulator32), Elements = ElementTypes.Low,
        SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Forward<T, TTile, TAcc>(ScoreForwardArguments arguments)
        where T : unmanaged, IElement where TTile : struct, ITile where TAcc : unmanaged, IAccumulator
    {
        int shared = SharedBlock.Open();
        int stageX = TTile.BlockM * TTile.BlockK * 2, stage = stageX + TTile.BlockN * TTile.BlockK * 2;
        int first = Grid.IdxY * arguments.ChunkTiles, last = Math.Min(first + arguments.ChunkTiles, arguments.Tiles);
        ScoreSource source = ScoreSource.Open<TTile>(arguments, first);
        for (int s = 0; s < TTile.Stages - 1; s++) source.Fetch<TTile>(arguments, last, shared + s * stage);

        int lane = Group.IdxX & 31, warp = Group.IdxX >> 5;
        int warpRow = (warp >> TTile.WarpColumnsShift) * TTile.WarpM, warpColumn = (warp & ((1 << TTile.WarpColumnsShift) - 1)) * TTile.WarpN;
        int laneX = WarpMma.LaneAddressA<Nt, TTile>(lane, warpRow), laneY = stageX + WarpMma.LaneAddressB<Nt, TTile>(lane, warpColumn);
        Accumulator16 state = OnlineSoftmax.Start();
        int read = shared, write = shared + (TTile.Stages - 1) * stage, end = shared + TTile.Stages * stage;
        for (int tile = first; tile < last; tile++)
        {
            TAcc scores = Accumulators.Zero<TAcc>();
            for (int depth = 0; depth < arguments.Depths; depth++)
            {
                AsyncCopy.Wait(TTile.Stages - 2);
                Group.Barrier();
                source.Fetch<TTile>(arguments, last, write);
                scores = WarpMma.Multiply<TAcc, T, Nt, TTile>(scores, read + laneX, read + laneY);
                read += stage;
                if (read == end) read = shared;
                write += stage;
                if (write == end) write = shared;
            }
            int columns = arguments.Columns - tile * TTile.BlockN;
            if (columns < TTile.BlockN) scores = OnlineSoftmax.Mask<TAcc, FragmentLayout<TTile>>(scores, columns - warpColumn - ((lane & 3) << 1));
            state = OnlineSoftmax.Update<TAcc, FragmentLayout<TTile>>(state, scores, arguments.Scale);
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        int pairs = 4 << TTile.WarpColumnsShift, pair = ((warp & ((1 << TTile.WarpColumnsShift) - 1)) << 2) + (lane & 3);
        OnlineSoftmax.Stage<TAcc, FragmentLayout<TTile>>(state, shared + ((warpRow + (lane >> 2)) * pairs + pair) * 8, 32 << TTile.WarpColumnsShift);
        Group.Barrier();
        WritePartial(arguments, shared, pairs, TTile.BlockM);
    }

    [CudaKernel("InfoNce", KernelDirection.Forward, 256, SharedBytes = ExactBytes, MinBlocks = TileExact.MinBlocks)]
    public static void ForwardExact<T>(ScoreForwardArguments arguments) where T : unmanaged, IElement
    {
        int shared = SharedBlock.Open(), row0 = Grid.IdxX * TileExact.BlockM;
        int first = Grid.IdxY * arguments.ChunkTiles, last = Math.Min(first + arguments.ChunkTiles, arguments.Tiles);
        int fetchTile = first, fetchDepth = 0;
        const int stage = 2 * TileExact.OperandBytes;
        for (int s = 0; s < TileExact.Stages - 1; s++)
            FetchExact<T>(arguments, shared + s * stage, row0, last, ref fetchTile, ref fetchDepth);
        int cornerX = (Group.IdxX >> 4) << 2, cornerY = (Group.IdxX & 15) << 2;
        int read = shared, write = shared + (TileExact.Stages - 1) * stage, end = shared + TileExact.Stages * stage;
        // 64 scores and 16 numbers of state leave too few of the 128 registers for the products.
        int aside = end + (Group.IdxX << 4);
        OnlineSoftmax.Save(OnlineSoftmax.Start(), aside, 4096);
        for (int tile = first; tile < last; tile++)
        {
            Accumulator64 scores = Accumulators.Zero<Accumulator64>();
            for (int depth = 0; depth < arguments.Depths; depth++)
            {
                AsyncCopy.Wait(TileExact.Stages - 2);
                Group.Barrier();
                FetchExact<T>(arguments, write, row0, last, ref fetchTile, ref fetchDepth);
                scores = ThreadMma.Multiply(scores, read + (cornerX << 2), read + TileExact.OperandBytes + (cornerY << 2), TileExact.BlockK, TileExact.Pitch);
                read += stage;
                if (read == end) read = shared;
                write += stage;
                if (write == end) write = shared;
            }
            int columns = arguments.Columns - tile * TileExact.BlockN;
            if (columns < TileExact.BlockN) scores = OnlineSoftmax.Mask<Accumulator64, ThreadLayout>(scores, columns - cornerY);
            OnlineSoftmax.Save(OnlineSoftmax.Update<Accumulator64, ThreadLayout>(OnlineSoftmax.Restore(aside, 4096), scores, arguments.Scale), aside, 4096);
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        OnlineSoftmax.Stage<Accumulator64, ThreadLayout>(OnlineSoftmax.Restore(aside, 4096), shared + (cornerX * 16 + (Group.IdxX & 15)) * 8, 128);
        Group.Barrier();
        WritePartial(arguments, shared, 16, TileExact.BlockM);
    }

    /// <summary>A warp a row: logSumExp and the row's loss, 0 and +infinity for a row that does not count.</summary>
    [CudaKernel("InfoNce", KernelDirection.Forward, 128)]
    public static void Combine<T>(ScoreCombineArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), lane = Group.IdxX & 31;
        if (row >= arguments.Rows) return;
        float max = float.NegativeInfinity, sum = 0;
        for (int chunk = lane; chunk < arguments.Chunks; chunk += 32)
            max = DeviceMath.Max(max, arguments.Partial.Load(2L * chunk * arguments.Rows + row));
        max = WarpReduce.Max(max);
        for (int chunk = lane; chunk < arguments.Chunks; chunk += 32)
            sum += arguments.Partial.Load((2L * chunk + 1) * arguments.Rows + row)
                * DeviceMath.Exp2((arguments.Partial.Load(2L * chunk * arguments.Rows + row) - max) * arguments.Scale);
        sum = WarpReduce.Sum(sum);
        float log = max * arguments.Factor + DeviceMath.Log(sum);
        int target = arguments.Targets.Of(row);
        float loss = 0;
        if (target >= 0) loss = log - RowDot.Of(arguments.X, row, arguments.Y, target, arguments.Dim, arguments.Vectorized) * arguments.Factor;
        if (lane != 0) return;
        arguments.LogSumExp.Store(row, target >= 0 ? log : float.PositiveInfinity);
        arguments.RowLoss.Store(row, loss);
    }

    /// <summary>Dynamic shared memory of the exact kernel.</summary>
    public const int ExactBytes = 4 * 2 * TileExact.OperandBytes + 256 * 16 * 4 + SharedBlock.AlignmentSlack;

    // The pairs that lanes left for the rows of the tile, rows * pairs * 8 bytes, become one pair a row.
    private static void WritePartial(ScoreForwardArguments arguments, int shared, int pairs, int rows)
    {
        int row = Grid.IdxX * rows + Group.IdxX;
        if (Group.IdxX >= rows | row >= arguments.Rows) return;
        int address = shared + Group.IdxX * pairs * 8;
        float max = SharedBlock.Load(address), sum = 0;
        for (int i = 1; i < pairs; i++) max = DeviceMath.Max(max, SharedBlock.Load(address + i * 8));
        for (int i = 0; i < pairs; i++)
            sum += SharedBlock.Load(address + i * 8 + 4) * DeviceMath.Exp2((SharedBlock.Load(address + i * 8) - max) * arguments.Scale);
        arguments.Partial.Store(2L * Grid.IdxY * arguments.Rows + row, max);
        arguments.Partial.Store((2L * Grid.IdxY + 1) * arguments.Rows + row, sum);
    }

    private static void FetchExact<T>(ScoreForwardArguments arguments, int stage, int row0, int last, ref int tile, ref int depth)
        where T : unmanaged, IElement
    {
        if (tile < last)
        {
            int depth0 = depth * TileExact.BlockK;
            ExactGemm.FetchOperand<T>(stage, arguments.X, arguments.StrideX, true, row0, arguments.Rows, depth0, arguments.Dim);
            ExactGemm.FetchOperand<T>(stage + TileExact.OperandBytes, arguments.Y, arguments.StrideY, true, tile * TileExact.BlockN, arguments.Columns, depth0, arguments.Dim);
            depth++;
            if (depth == arguments.Depths)
            {
                depth = 0;
                tile++;
            }
        }
        AsyncCopy.Commit();
    }

    /// <summary>One thread's part in copying tile after tile of columns, each with the same rows beside it.</summary>
    private struct ScoreSource
    {
        private TileSource _x, _y;
        private int _tile, _depth;

        public static ScoreSource Open<TTile>(ScoreForwardArguments arguments, int tile) where TTile : struct, ITile => new()
        {
            _x = TileSource.Open<TTile>(arguments.X, arguments.StrideX, true, Grid.IdxX * TTile.BlockM, arguments.Rows, 0, arguments.Dim, TTile.BlockM),
            _y = TileSource.Open<TTile>(arguments.Y, arguments.StrideY, true, tile * TTile.BlockN, arguments.Columns, 0, arguments.Dim, TTile.BlockN),
            _tile = tile,
            _depth = 0,
        };

        /// <summary>Issues the copies of the next stage, if there is one, and closes their group.</summary>
        public void Fetch<TTile>(ScoreForwardArguments arguments, int last, int stage) where TTile : struct, ITile
        {
            if (_tile < last)
            {
                _x.Fetch<TTile>(stage, true, TTile.BlockM);
                _y.Fetch<TTile>(stage + TTile.BlockM * TTile.BlockK * 2, true, TTile.BlockN);
                _depth++;
                if (_depth == arguments.Depths) this = Open<TTile>(arguments, _tile + 1);
            }
            AsyncCopy.Commit();
        }
    }
}

/// <summary>Inner products of rows, a warp each.</summary>
internal static class RowDot
{
    /// <summary>The inner product of a row of x and a row of y, in every lane; all lanes of the warp must call it for the same rows.</summary>
    public static float Of<T>(DeviceMatrix<T> x, int rowX, DeviceMatrix<T> y, int rowY, int columns, int vectorized) where T : unmanaged, IElement
    {
        int lane = Group.IdxX & 31;
        float sum = 0;
        if (vectorized != 0)
            for (int c = lane << 3; c < columns; c += 256) sum += x.Load8(rowX, c).Dot(y.Load8(rowY, c));
        else
            for (int c = lane; c < columns; c += 32) sum += x.Load(rowX, c) * y.Load(rowY, c);
        return WarpReduce.Sum(sum);
    }
}
