using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>What a tile of scores meets: queries are rows, corpus rows are columns.</summary>
internal struct TopKTiles
{
    /// <summary>[queries, columns]: receives the strips of 64 scores that may hold a result, and nothing else.</summary>
    public DeviceMatrix<FP32> Scores;

    /// <summary>[queries, strips]: receives each strip's largest score.</summary>
    public DevicePointer<FP32> Largest;

    /// <summary>[queries]: the rank of the worst result so far, 0 while there is room.</summary>
    public DevicePointer<int> Thresholds;

    /// <summary>Strips of a query.</summary>
    public long Strips;
}

/// <summary>Merges the scores of one launch into the results so far.</summary>
internal struct TopKSelection
{
    /// <summary>As <see cref="TopKTiles"/> leaves them.</summary>
    public DeviceMatrix<FP32> Scores;

    /// <summary>[queries, strips].</summary>
    public DevicePointer<FP32> Largest;

    /// <summary>[queries, k]: keys, best first, 0 behind the last.</summary>
    public DevicePointer<long> Keys;

    /// <summary>[queries].</summary>
    public DevicePointer<int> Thresholds;

    /// <summary>Strips of a query, and the number of the corpus row in column 0.</summary>
    public long Strips, FirstRow;

    /// <summary>Sizes.</summary>
    public int Columns, K;
}

/// <summary>Turns keys into rows and scores.</summary>
internal struct TopKResults
{
    /// <summary>[count].</summary>
    public DevicePointer<long> Keys, Rows;

    /// <summary>[count].</summary>
    public DevicePointer<FP32> Scores;

    /// <summary>Entries of all queries.</summary>
    public long Count;
}

/// <summary>
/// Scores are computed as a matrix product whose tiles hardly ever leave the multiprocessor: of each strip of 64 scores the largest is kept, and the strip
/// itself only if that reaches the query's k-th best so far. A block a query then gathers what does, and sorts it together with the results.
/// </summary>
internal static class TopKKernels
{
    /// <summary>Scores of a strip.</summary>
    public const int Strip = 64;

    /// <summary>Keys that are sorted at once: results and what may join them.</summary>
    public const int Capacity = 2048;

    private const int Threads = 128, Warps = Threads / 32;

    /// <summary>Dynamic shared memory of <see cref="Select"/>: keys, the numbers of wanted strips, a count for each warp.</summary>
    public const int SelectBytes = (Capacity + Threads + Warps) * 8 + SharedBlock.AlignmentSlack;

    [CudaKernel("TopK", KernelDirection.Update, 128, typeof(Tile128), typeof(Accumulator128),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("TopK", KernelDirection.Update, 128, typeof(Tile64), typeof(Accumulator32),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Score<T, TTile, TAcc>(GemmArguments<TopKTiles> arguments)
        where T : unmanaged, IElement where TTile : struct, ITile where TAcc : unmanaged, IAccumulator
    {
        int row0 = Grid.IdxX * TTile.BlockM, column0 = Grid.IdxY * TTile.BlockN;
        int tile = Gemm.Product<T, Nt, TTile, TAcc, TopKTiles>(arguments, row0, column0);
        Keep<TTile>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    [CudaKernel("TopK", KernelDirection.Update, 256, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    public static void ScoreExact<T>(GemmArguments<TopKTiles> arguments) where T : unmanaged, IElement
    {
        int row0 = Grid.IdxX * TileExact.BlockM, column0 = Grid.IdxY * TileExact.BlockN;
        int tile = ExactGemm.Product<T, Nt, TopKTiles>(arguments, row0, column0);
        Keep<TileExact>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    /// <summary>
    /// A block is a query. Shared memory holds the k results, best first, and behind them what is better than the worst of them; when that does not fit any
    /// more, and at the end, all is sorted and the k best stay.
    /// </summary>
    [CudaKernel("TopK", KernelDirection.Update, Threads, Elements = ElementTypes.None, SharedBytes = SelectBytes)]
    public static void Select(TopKSelection arguments)
    {
        int keys = SharedBlock.Open(), wanted = keys + Capacity * 8, counts = wanted + Threads * 8, thread = Group.IdxX, warp = thread >> 5;
        long query = Grid.IdxX, results = query * arguments.K;
        for (int i = thread; i < arguments.K; i += Threads) WideMemory.StoreShared(keys + (i << 3), arguments.Keys.Load(results + i));
        Group.Barrier();
        ulong worst = (ulong)WideMemory.LoadShared(keys + ((arguments.K - 1) << 3));
        int count = arguments.K;
        for (int first = 0; first < arguments.Strips; first += Threads)
        {
            int strip = first + thread;
            int isWanted = strip < arguments.Strips ? (TopKKey.Rank(arguments.Largest.Load(query * arguments.Strips + strip)) >= (uint)(worst >> 32) ? 1 : 0) : 0;
            Placement strips = Place(isWanted, counts);
            if (isWanted != 0) WideMemory.StoreShared(wanted + (strips.At << 3), strip);
            Group.Barrier();
            for (int s = warp; s - warp < strips.Total; s += Warps)
            {
                ulong one = 0, other = 0;
                if (s < strips.Total)
                {
                    int column = (int)WideMemory.LoadShared(wanted + (s << 3)) * Strip + ((thread & 31) << 1);
                    one = Key(arguments, query, column);
                    other = Key(arguments, query, column + 1);
                }
                int isOne = one > worst ? 1 : 0, isOther = other > worst ? 1 : 0;
                Placement better = Place(isOne + isOther, counts);
                if (count + better.Total > Capacity)
                {
                    Sort(keys, count);
                    worst = (ulong)WideMemory.LoadShared(keys + ((arguments.K - 1) << 3));
                    count = arguments.K;
                }
                if (isOne != 0) WideMemory.StoreShared(keys + ((count + better.At) << 3), (long)one);
                if (isOther != 0) WideMemory.StoreShared(keys + ((count + better.At + isOne) << 3), (long)other);
                count += better.Total;
            }
            Group.Barrier();
        }
        if (count > arguments.K) Sort(keys, count);
        for (int i = thread; i < arguments.K; i += Threads) arguments.Keys.Store(results + i, WideMemory.LoadShared(keys + (i << 3)));
        if (thread == 0) arguments.Thresholds.Store(query, (int)(WideMemory.LoadShared(keys + ((arguments.K - 1) << 3)) >> 32));
    }

    /// <summary>An entry a thread.</summary>
    [CudaKernel("TopK", KernelDirection.Update, Threads, Elements = ElementTypes.None)]
    public static void Write(TopKResults arguments)
    {
        long entry = (long)Grid.IdxX * Threads + Group.IdxX;
        if (entry >= arguments.Count) return;
        ulong key = (ulong)arguments.Keys.Load(entry);
        arguments.Scores.Store(entry, TopKKey.Score(key));
        arguments.Rows.Store(entry, TopKKey.Row(key));
    }

    /// <summary>
    /// Consumes a tile in shared memory whose first element is the score of query <paramref name="row0"/> and corpus row <paramref name="column0"/>: keeps the
    /// largest score of each strip, and the strips that reach the threshold.
    /// </summary>
    public static void Keep<TTile>(TopKTiles tiles, int shared, int row0, int column0, int rows, int columns) where TTile : struct, ITile
    {
        int stride = WarpMma.StagingStride(TTile.BlockN), chunkShift = TTile.BlockN == 128 ? 4 : 3, step = TTile.Threads >> chunkShift;
        int column = (Group.IdxX & ((1 << chunkShift) - 1)) * 8, left = columns - (column0 + column);
        for (int r = Group.IdxX >> chunkShift; r < TTile.BlockM; r += step)
        {
            Float8 scores = SharedBlock.Load8(shared + (r * stride + column) * 4);
            if (left < 8) scores = FirstOnly(scores, left);
            float largest = LaneGroup.Max(scores.Max(), Strip / 8);
            int row = row0 + r;
            // A strip of the tile may lie behind the last column as a whole.
            if (row >= rows | column0 + (column & -Strip) >= columns) continue;
            if ((column & (Strip - 1)) == 0) tiles.Largest.Store(row * tiles.Strips + ((column0 + column) >> 6), largest);
            if (TopKKey.Rank(largest) >= (uint)tiles.Thresholds.Load(row)) tiles.Scores.Store8(row, column0 + column, scores);
        }
    }

    // What lies behind the last column counts as minus infinity.
    private static Float8 FirstOnly(Float8 scores, int count) => new()
    {
        A = count > 0 ? scores.A : float.NegativeInfinity,
        B = count > 1 ? scores.B : float.NegativeInfinity,
        C = count > 2 ? scores.C : float.NegativeInfinity,
        D = count > 3 ? scores.D : float.NegativeInfinity,
        E = count > 4 ? scores.E : float.NegativeInfinity,
        F = count > 5 ? scores.F : float.NegativeInfinity,
        G = count > 6 ? scores.G : float.NegativeInfinity,
        H = count > 7 ? scores.H : float.NegativeInfinity,
    };

    private static ulong Key(TopKSelection arguments, long query, int column) => column < arguments.Columns
        ? TopKKey.Of(arguments.Scores.Start.Load(query * arguments.Scores.Stride + column), (uint)(arguments.FirstRow + column)) : 0;

    // Puts the threads' items (up to three each) side by side, in the order of the threads. Every thread of the block must call it.
    private static Placement Place(int items, int counts)
    {
        int warp = Group.IdxX >> 5, below = (1 << (Group.IdxX & 31)) - 1;
        int ones = WarpVote.Ballot(items & 1), twos = WarpVote.Ballot(items & 2);
        if ((Group.IdxX & 31) == 0) WideMemory.StoreShared(counts + (warp << 3), WarpVote.CountBits(ones) + 2 * WarpVote.CountBits(twos));
        Group.Barrier();
        int at = WarpVote.CountBits(ones & below) + 2 * WarpVote.CountBits(twos & below), total = 0;
        for (int w = 0; w < Warps; w++)
        {
            int others = (int)WideMemory.LoadShared(counts + (w << 3));
            if (w < warp) at += others;
            total += others;
        }
        Group.Barrier();
        return new Placement { At = at, Total = total };
    }

    // Bitonic, descending, in shared memory; the keys from count up to the next power of two become 0.
    private static void Sort(int keys, int count)
    {
        int size = 2;
        while (size < count) size <<= 1;
        for (int i = count + Group.IdxX; i < size; i += Threads) WideMemory.StoreShared(keys + (i << 3), 0);
        Group.Barrier();
        for (int run = 2; run <= size; run <<= 1)
        {
            for (int distance = run >> 1; distance > 0; distance >>= 1)
            {
                for (int i = Group.IdxX; i < size >> 1; i += Threads)
                {
                    int low = 2 * i - (i & (distance - 1)), address = keys + (low << 3), partner = address + (distance << 3);
                    ulong x = (ulong)WideMemory.LoadShared(address), y = (ulong)WideMemory.LoadShared(partner);
                    if (x < y != ((low & run) == 0)) continue;
                    WideMemory.StoreShared(address, (long)y);
                    WideMemory.StoreShared(partner, (long)x);
                }
                Group.Barrier();
            }
        }
    }

    private struct Placement
    {
        public int At, Total;
    }
}
