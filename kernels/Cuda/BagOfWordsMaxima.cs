using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>What a tile of scores meets: rows are tokens, columns are outputs.</summary>
internal struct BagTiles<T> where T : unmanaged, IElement
{
    /// <summary>[vocabulary], or null.</summary>
    public DevicePointer<T> Bias;

    /// <summary>[texts + 1].</summary>
    public DevicePointer<int> CuSeqlens;

    /// <summary>[texts, vocabulary] receives the rows that the maxima came from.</summary>
    public DevicePointer<int> Tokens;

    /// <summary>[texts, vocabulary] receives the maxima.</summary>
    public DeviceMatrix<FP32> Maxima;

    /// <summary>Rows at each text's start that take no part.</summary>
    public int Skipped;

    /// <summary>Outputs.</summary>
    public int Vocabulary;
}

/// <summary>
/// The largest score of each output over a text's tokens. A block takes a text and a tile of outputs; tiles begin at the text's own rows, so the scores of other texts in the last one
/// are computed and not looked at. A thread keeps one output's best score while the text's tiles pass by. Grid: (texts, ceil(vocabulary / tile)).
/// </summary>
internal static class BagOfWordsMaximaKernels
{
    [CudaKernel("BagOfWords", KernelDirection.Forward, 128, typeof(Tile128), typeof(Accumulator128),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("BagOfWords", KernelDirection.Forward, 128, typeof(Tile64), typeof(Accumulator32),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Maxima<T, TTile, TAcc>(GemmArguments<BagTiles<T>> arguments)
        where T : unmanaged, IElement where TTile : struct, ITile where TAcc : unmanaged, IAccumulator
    {
        int column0 = Grid.IdxY * TTile.BlockN, end = arguments.Epilogue.CuSeqlens.Load(Grid.IdxX + 1);
        Best best = Start();
        for (int row0 = arguments.Epilogue.CuSeqlens.Load(Grid.IdxX) + arguments.Epilogue.Skipped; row0 < end; row0 += TTile.BlockM)
        {
            int tile = Gemm.Product<T, Nt, TTile, TAcc, BagTiles<T>>(arguments, row0, column0);
            best = Look<TTile>(best, tile, row0, end);
            Group.Barrier();
        }
        Finish<T, TTile>(arguments.Epilogue, best, column0);
    }

    [CudaKernel("BagOfWords", KernelDirection.Forward, 256, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    public static void MaximaExact<T>(GemmArguments<BagTiles<T>> arguments) where T : unmanaged, IElement
    {
        int column0 = Grid.IdxY * TileExact.BlockN, end = arguments.Epilogue.CuSeqlens.Load(Grid.IdxX + 1);
        Best best = Start();
        for (int row0 = arguments.Epilogue.CuSeqlens.Load(Grid.IdxX) + arguments.Epilogue.Skipped; row0 < end; row0 += TileExact.BlockM)
        {
            int tile = ExactGemm.Product<T, Nt, BagTiles<T>>(arguments, row0, column0);
            best = Look<TileExact>(best, tile, row0, end);
            Group.Barrier();
        }
        Finish<T, TileExact>(arguments.Epilogue, best, column0);
    }

    private static Best Start() => new() { Score = float.NegativeInfinity, Row = -1, Trouble = 0 };

    // A thread reads its column of the tile; where there are more threads than columns, every other row.
    private static Best Look<TTile>(Best best, int tile, int row0, int end) where TTile : struct, ITile
    {
        int shift = TTile.BlockN == 128 ? 7 : 6, parts = TTile.Threads >> shift, stride = WarpMma.StagingStride(TTile.BlockN);
        int rows = Math.Min(TTile.BlockM, end - row0), column = Group.IdxX & (TTile.BlockN - 1);
        for (int r = Group.IdxX >> shift; r < rows; r += parts)
        {
            float score = SharedBlock.Load(tile + (r * stride + column) * 4);
            // 0 as long as every score is finite, NaN from then on.
            best.Trouble = DeviceMath.Fma(score, 0, best.Trouble);
            if (score <= best.Score) continue;
            best.Score = score;
            best.Row = row0 + r;
        }
        return best;
    }

    private static void Finish<T, TTile>(BagTiles<T> tiles, Best best, int column0) where T : unmanaged, IElement where TTile : struct, ITile
    {
        int shift = TTile.BlockN == 128 ? 7 : 6, parts = TTile.Threads >> shift;
        int part = Group.IdxX >> shift, mine = Group.IdxX & (TTile.BlockN - 1), column = column0 + mine;
        if (parts > 1)
        {
            int other = SharedBlock.Open() + (mine << 4);
            if (part == 1)
            {
                WideMemory.StoreShared(other, best.Row);
                SharedBlock.Store(other + 8, best.Score);
                SharedBlock.Store(other + 12, best.Trouble);
            }
            Group.Barrier();
            if (part == 0)
            {
                int row = (int)WideMemory.LoadShared(other);
                float score = SharedBlock.Load(other + 8);
                best.Trouble += SharedBlock.Load(other + 12);
                if (score > best.Score | (score == best.Score & row >= 0 & row < best.Row))
                {
                    best.Score = score;
                    best.Row = row;
                }
            }
        }
        if (part != 0 | column >= tiles.Vocabulary) return;
        float bias = tiles.Bias.IsNull ? 0f : tiles.Bias.Load(column);
        bool isThere = tiles.CuSeqlens.Load(Grid.IdxX + 1) - tiles.CuSeqlens.Load(Grid.IdxX) > tiles.Skipped;
        tiles.Maxima.Store(Grid.IdxX, column, isThere ? best.Score + bias + best.Trouble : 0f);
        tiles.Tokens.Store((long)Grid.IdxX * tiles.Vocabulary + column, isThere & best.Row < 0 ? tiles.CuSeqlens.Load(Grid.IdxX) + tiles.Skipped : best.Row);
    }

    private struct Best
    {
        public float Score, Trouble;
        public int Row;
    }
}
