namespace BgeMetal.Kernels.Cuda;

/// <summary>Which kernel of a matrix product's families.</summary>
internal enum WarpGroupTiling
{
    /// <summary>None: mma.sync.</summary>
    None,

    /// <summary><see cref="WarpGroupTile128"/>.</summary>
    Tile128,

    /// <summary><see cref="WarpGroupTile256"/>.</summary>
    Tile256,

    /// <summary><see cref="WarpGroupPair128"/>.</summary>
    Pair128,
}

/// <summary>
/// What a product is predicted to cost on a Hopper multiprocessor, in its clock cycles: the rule by which a kernel is chosen. Unmeasured. A multiprocessor
/// does 2048 multiply-adds a cycle; how many of its turns the work takes is the ceiling of tiles over multiprocessors (wave quantisation). A block alone on its
/// multiprocessor multiplies or finishes a tile; two blocks on one finish while the other multiplies, so that only the last tile's end shows. Each
/// stage's bytes come from the second-level cache, less what another block of the cluster fetches, and all of them are written to shared memory and read again by the
/// tensor cores: B once by each of the two groups of warps, A once.
/// </summary>
internal static class GemmCost
{
    /// <summary>Multiply-adds a cycle of one multiprocessor, dense 16-bit.</summary>
    public const double MultiplyAdds = 2048;

    /// <summary>Instructions an element of an epilogue that only adds and rounds, and of one that goes through GELU or its derivative (counted in SASS).</summary>
    public const int PlainEpilogue = 6, GeluEpilogue = 30;

    // Bytes a cycle of a multiprocessor's shared memory: 32 banks of 4.
    private const double SharedBytes = 128;

    // Assumptions: bytes a cycle that the second-level cache delivers to one multiprocessor; mma.sync's share of the tensor cores' rate with 128 x 128 and
    // 64 x 64 tiles; cycles until the first stage has come and the last result has gone; cycles of a cluster's two meetings; cycles of another launch.
    private const double CacheBytes = 48, MmaRate128 = 0.62, MmaRate64 = 0.45, Latency = 1500, Meetings = 500, Launch = 5000;

    // Cycles a column of a tile of 128 rows: a trip through shared memory and the way out, unless instructions take longer, of which 6 move the data.
    private const int MoveCycles = 12, MoveInstructions = 6;

    /// <summary>128 x 256 tiles.</summary>
    public static double Tile256(int m, int n, int k, int splits, int multiProcessors, int epilogue)
    {
        double stages = Stages(k, splits), turns = Turns(m, n, 128, 256, splits, multiProcessors);
        return turns * (stages * Stage(256, 256) + Finish(256, splits > 1 ? PlainEpilogue : epilogue)) + Latency + Sum(m, n, splits, multiProcessors);
    }

    /// <summary>128 x 128 tiles, two blocks a multiprocessor.</summary>
    public static double Tile128(int m, int n, int k, int splits, int multiProcessors, int epilogue)
    {
        double stages = Stages(k, splits), turns = Turns(m, n, 128, 128, splits, multiProcessors), finish = Finish(128, splits > 1 ? PlainEpilogue : epilogue);
        return turns * Math.Max(stages * Stage(128, 128), finish) + finish + Latency + Sum(m, n, splits, multiProcessors);
    }

    /// <summary>The same in pairs of blocks one below the other that share B; two rows of tiles are one pair even where the second lies behind the last row.</summary>
    public static double Pair128(int m, int n, int k, int splits, int multiProcessors, int epilogue)
    {
        double stages = Stages(k, splits), turns = Turns(m, n, 256, 128, splits, multiProcessors / 2.0), finish = Finish(128, splits > 1 ? PlainEpilogue : epilogue);
        return turns * Math.Max(stages * Stage(128, 64), finish) + finish + Latency + Meetings + Sum(m, n, splits, multiProcessors);
    }

    /// <summary>Cycles of one stage of 128 x <paramref name="columns"/> x 64, of whose B the block fetches <paramref name="fetched"/> columns itself.</summary>
    public static double Stage(int columns, int fetched) => Math.Max(128.0 * columns * 64 / MultiplyAdds,
        Math.Max((128 + fetched) * 128 / CacheBytes, (128 + columns + 128 + 2 * columns) * 128 / SharedBytes));

    /// <summary>The cost with a kernel that is not mma.sync's.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The tiling is none.</exception>
    public static double Of(WarpGroupTiling tiling, int m, int n, int k, int splits, int multiProcessors, int epilogue) => tiling switch
    {
        WarpGroupTiling.Tile128 => Tile128(m, n, k, splits, multiProcessors, epilogue),
        WarpGroupTiling.Tile256 => Tile256(m, n, k, splits, multiProcessors, epilogue),
        WarpGroupTiling.Pair128 => Pair128(m, n, k, splits, multiProcessors, epilogue),
        _ => throw new ArgumentOutOfRangeException(nameof(tiling), tiling, "there is no such warp-group kernel"),
    };

    /// <summary>mma.sync with tiles of <paramref name="block"/> x block.</summary>
    public static double Mma(int m, int n, int k, int splits, int multiProcessors, int epilogue, int block)
    {
        double rate = MultiplyAdds * (block == 128 ? MmaRate128 : MmaRate64);
        return Turns(m, n, block, block, splits, multiProcessors) * Stages(k, splits) * block * block * 64 / rate
            + Finish(block, splits > 1 ? PlainEpilogue : epilogue) * block / 128 + Latency + Sum(m, n, splits, multiProcessors);
    }

    private static double Stages(int k, int splits) => Math.Ceiling(k / 64.0 / splits);

    private static double Turns(int m, int n, int blockM, int blockN, int splits, double multiProcessors) =>
        Math.Ceiling(Math.Ceiling(m / (double)blockM) * Math.Ceiling(n / (double)blockN) * splits / multiProcessors);

    private static double Finish(int columns, int epilogue) => columns * (double)Math.Max(MoveCycles, epilogue + MoveInstructions);

    // Partial sums are written and read again in another launch, half as fast as operands come.
    private static double Sum(int m, int n, int splits, int multiProcessors) =>
        splits == 1 ? 0 : Launch + 2.0 * splits * m * n * 4 / (CacheBytes / 2 * multiProcessors);
}
