using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>What a tile of logits meets. Rows are counted from the launch's first row, columns from its first column of the vocabulary.</summary>
internal struct VocabularyTiles<T> where T : unmanaged, IElement
{
    /// <summary>[columns], or null.</summary>
    public DevicePointer<T> Bias;

    /// <summary>[rows]: columns of the whole vocabulary.</summary>
    public DevicePointer<int> Labels;

    /// <summary>Forward: [column tiles, 2, rows], each row's largest logit and sum of exponentials. Backward: [row tiles, columns], the column sums of the gradient, or null.</summary>
    public DevicePointer<FP32> Partial;

    /// <summary>Forward, [rows]: receives each row's logit at its label.</summary>
    public DevicePointer<FP32> Right;

    /// <summary>Backward, [rows].</summary>
    public DevicePointer<FP32> LogSumExp;

    /// <summary>Backward: the gradient of the mean loss (one binary32, or null for 1), and the forward pass's result.</summary>
    public DevicePointer<FP32> LossGradient, Result;

    /// <summary>Backward: receives the gradient of the logits, with zeros up to the next multiple of 8 columns.</summary>
    public DeviceMatrix<T> Gradients;

    /// <summary>The launch's first column within the vocabulary, and nonzero when the bias starts at a multiple of 16 bytes.</summary>
    public int FirstColumn, Vectorized;
}

/// <summary>Puts the column tiles of a row together.</summary>
internal struct VocabularyLossArguments
{
    /// <summary>[tiles, 2, rows].</summary>
    public DevicePointer<FP32> Partial;

    /// <summary>[rows]: the logit at the label on the way in, the row's loss on the way out.</summary>
    public DevicePointer<FP32> RowLoss;

    /// <summary>[rows], and [2]: mean loss, 1 / labelled rows.</summary>
    public DevicePointer<FP32> LogSumExp, Result;

    /// <summary>[rows].</summary>
    public DevicePointer<int> Labels;

    /// <summary>Sizes.</summary>
    public int Rows, Tiles;

    /// <summary>What labels must be below.</summary>
    public long Vocabulary;
}

/// <summary>
/// Tiles of logits x W^T + bias that are reduced, or turned into gradients, where they are computed. A tile of the product lies in shared memory; BlockN / 8
/// lanes share a row, eight columns each, so a row's maximum and sum take three or four shuffles. Neighbouring blocks share a tile of W and walk over the rows
/// of x: W, the operand that does not fit into the second-level cache, is read once.
/// </summary>
internal static class LinearCrossEntropyKernels
{
    private const int RowsABlock = 32, Parts = 8;

    /// <summary>Dynamic shared memory of <see cref="Combine"/>: a maximum and a sum for each part of each row.</summary>
    public const int CombineBytes = 2 * RowsABlock * Parts * 4 + SharedBlock.AlignmentSlack;

    /// <summary>Dynamic shared memory of <see cref="Mean"/>: the scratch of a block reduction.</summary>
    public const int MeanBytes = 32 * 4 + SharedBlock.AlignmentSlack;

    [CudaKernel("LinearCrossEntropy", KernelDirection.Forward, 128, typeof(Tile128), typeof(Accumulator128),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Forward, 128, typeof(Tile64), typeof(Accumulator32),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Forward<T, TTile, TAcc>(GemmArguments<VocabularyTiles<T>> arguments)
        where T : unmanaged, IElement where TTile : struct, ITile where TAcc : unmanaged, IAccumulator
    {
        int row0 = Grid.IdxX * TTile.BlockM, column0 = Grid.IdxY * TTile.BlockN;
        int tile = Gemm.Product<T, Nt, TTile, TAcc, VocabularyTiles<T>>(arguments, row0, column0);
        Reduce<T, TTile>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    [CudaKernel("LinearCrossEntropy", KernelDirection.Forward, 256, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    public static void ForwardExact<T>(GemmArguments<VocabularyTiles<T>> arguments) where T : unmanaged, IElement
    {
        int row0 = Grid.IdxX * TileExact.BlockM, column0 = Grid.IdxY * TileExact.BlockN;
        int tile = ExactGemm.Product<T, Nt, VocabularyTiles<T>>(arguments, row0, column0);
        Reduce<T, TileExact>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 128, typeof(Tile128), typeof(Accumulator128),
        Elements = ElementTypes.Low, SharedBytes = Tile128.SharedBytes, MinBlocks = Tile128.MinBlocks, TensorCores = true)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 128, typeof(Tile64), typeof(Accumulator32),
        Elements = ElementTypes.Low, SharedBytes = Tile64.SharedBytes, MinBlocks = Tile64.MinBlocks, TensorCores = true)]
    public static void Gradients<T, TTile, TAcc>(GemmArguments<VocabularyTiles<T>> arguments)
        where T : unmanaged, IElement where TTile : struct, ITile where TAcc : unmanaged, IAccumulator
    {
        int row0 = Grid.IdxX * TTile.BlockM, column0 = Grid.IdxY * TTile.BlockN;
        int tile = Gemm.Product<T, Nt, TTile, TAcc, VocabularyTiles<T>>(arguments, row0, column0);
        Differentiate<T, TTile>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, 256, SharedBytes = TileExact.SharedBytes, MinBlocks = TileExact.MinBlocks)]
    public static void GradientsExact<T>(GemmArguments<VocabularyTiles<T>> arguments) where T : unmanaged, IElement
    {
        int row0 = Grid.IdxX * TileExact.BlockM, column0 = Grid.IdxY * TileExact.BlockN;
        int tile = ExactGemm.Product<T, Nt, VocabularyTiles<T>>(arguments, row0, column0);
        Differentiate<T, TileExact>(arguments.Epilogue, tile, row0, column0, arguments.M, arguments.N);
    }

    /// <summary>Thirty-two rows a block, eight threads a row: each takes every eighth tile, and their results are put together in order.</summary>
    [CudaKernel("LinearCrossEntropy", KernelDirection.Forward, 256, Elements = ElementTypes.None, SharedBytes = CombineBytes)]
    public static void Combine(VocabularyLossArguments arguments)
    {
        int shared = SharedBlock.Open();
        int part = Group.IdxX >> 5, row = Grid.IdxX * RowsABlock + (Group.IdxX & 31);
        float largest = float.NegativeInfinity, sum = 0;
        for (int tile = part; tile < arguments.Tiles & row < arguments.Rows; tile += Parts)
        {
            long at = 2L * tile * arguments.Rows + row;
            float tileLargest = arguments.Partial.Load(at), next = DeviceMath.Max(largest, tileLargest);
            sum = sum * DeviceMath.Exp(largest - next) + arguments.Partial.Load(at + arguments.Rows) * DeviceMath.Exp(tileLargest - next);
            largest = next;
        }
        SharedBlock.Store(shared + (Group.IdxX << 2), largest);
        SharedBlock.Store(shared + ((RowsABlock * Parts + Group.IdxX) << 2), sum);
        Group.Barrier();
        if (part != 0 | row >= arguments.Rows) return;
        for (int p = 1; p < Parts; p++) largest = DeviceMath.Max(largest, SharedBlock.Load(shared + ((p * RowsABlock + Group.IdxX) << 2)));
        sum = 0;
        for (int p = 0; p < Parts; p++)
            sum += SharedBlock.Load(shared + (((p + Parts) * RowsABlock + Group.IdxX) << 2))
                * DeviceMath.Exp(SharedBlock.Load(shared + ((p * RowsABlock + Group.IdxX) << 2)) - largest);
        int label = arguments.Labels.Load(row);
        float logSumExp = largest + DeviceMath.Log(sum);
        // A label beyond the vocabulary has no logit; the loss shows it.
        float loss = label < arguments.Vocabulary ? logSumExp - arguments.RowLoss.Load(row) : float.NaN;
        arguments.LogSumExp.Store(row, label >= 0 ? logSumExp : float.PositiveInfinity);
        arguments.RowLoss.Store(row, label >= 0 ? loss : 0f);
    }

    /// <summary>One block: the mean of the labelled rows' losses, and the reciprocal of their number.</summary>
    [CudaKernel("LinearCrossEntropy", KernelDirection.Forward, 256, Elements = ElementTypes.None, SharedBytes = MeanBytes)]
    public static void Mean(VocabularyLossArguments arguments)
    {
        int shared = SharedBlock.Open();
        float sum = 0, count = 0;
        for (int row = Group.IdxX; row < arguments.Rows; row += 256)
        {
            sum += arguments.RowLoss.Load(row);
            count += arguments.Labels.Load(row) >= 0 ? 1f : 0f;
        }
        sum = BlockReduce.Sum(sum, shared);
        count = BlockReduce.Sum(count, shared);
        if (Group.IdxX != 0) return;
        float weight = DeviceMath.Reciprocal(DeviceMath.Max(count, 1));
        arguments.Result.Store(LinearCrossEntropy.MeanIndex, sum * weight);
        arguments.Result.Store(LinearCrossEntropy.WeightIndex, weight);
    }

    private static void Reduce<T, TTile>(VocabularyTiles<T> tiles, int shared, int row0, int column0, int rows, int columns)
        where T : unmanaged, IElement where TTile : struct, ITile
    {
        int stride = WarpMma.StagingStride(TTile.BlockN), chunkShift = TTile.BlockN == 128 ? 4 : 3, step = TTile.Threads >> chunkShift;
        int first = Group.IdxX >> chunkShift, column = (Group.IdxX & ((1 << chunkShift) - 1)) * 8;
        Float8 start = LoadBias(tiles, column0 + column, columns);
        for (int r = first; r < TTile.BlockM; r += step)
        {
            Float8 logits = SharedBlock.Load8(shared + (r * stride + column) * 4) + start;
            float largest = LaneGroup.Max(logits.Max(), TTile.BlockN >> 3);
            float sum = LaneGroup.Sum(((logits - largest) * DeviceMath.Log2E).Map<PowerOfTwo>().Sum(), TTile.BlockN >> 3);
            int row = row0 + r;
            if (column != 0 | row >= rows) continue;
            long at = 2L * Grid.IdxY * rows + row;
            tiles.Partial.Store(at, largest);
            tiles.Partial.Store(at + rows, sum);
            int label = tiles.Labels.Load(row) - column0;
            if (label < 0 | label >= TTile.BlockN | label >= columns - column0) continue;
            float bias = tiles.Bias.IsNull ? 0f : tiles.Bias.Load(column0 + label);
            tiles.Right.Store(row, SharedBlock.Load(shared + (r * stride + label) * 4) + bias);
        }
    }

    private static void Differentiate<T, TTile>(VocabularyTiles<T> tiles, int shared, int row0, int column0, int rows, int columns)
        where T : unmanaged, IElement where TTile : struct, ITile
    {
        int stride = WarpMma.StagingStride(TTile.BlockN), chunkShift = TTile.BlockN == 128 ? 4 : 3, step = TTile.Threads >> chunkShift;
        int first = Group.IdxX >> chunkShift, column = (Group.IdxX & ((1 << chunkShift) - 1)) * 8;
        float scale = tiles.Result.Load(LinearCrossEntropy.WeightIndex);
        if (!tiles.LossGradient.IsNull) scale *= tiles.LossGradient.Load(0);
        Float8 start = LoadBias(tiles, column0 + column, columns), sums = Float8.All(0);
        for (int r = first; r < TTile.BlockM; r += step)
        {
            int row = row0 + r;
            if (row >= rows) continue;
            Float8 logits = SharedBlock.Load8(shared + (r * stride + column) * 4) + start;
            // A row without a label has a logSumExp of infinity, which leaves no probability.
            Float8 gradients = ((logits - tiles.LogSumExp.Load(row)) * DeviceMath.Log2E).Map<PowerOfTwo>();
            int label = tiles.Labels.Load(row) - tiles.FirstColumn - (column0 + column);
            if (label >= 0 & label < 8) gradients -= OneAt(label);
            gradients *= scale;
            sums += gradients;
            if (column0 + column < columns) tiles.Gradients.Store8(row, column0 + column, gradients);
        }
        if (tiles.Partial.IsNull) return;
        Group.Barrier();
        SharedBlock.Store8(shared + (first * TTile.BlockN + column) * 4, sums);
        Group.Barrier();
        int mine = Group.IdxX;
        if (mine >= TTile.BlockN | column0 + mine >= columns) return;
        float total = 0;
        for (int g = 0; g < step; g++) total += SharedBlock.Load(shared + (g * TTile.BlockN + mine) * 4);
        tiles.Partial.Store((long)Grid.IdxX * columns + column0 + mine, total);
    }

    // Columns that do not exist get a logit of minus infinity.
    private static Float8 LoadBias<T>(VocabularyTiles<T> tiles, int column, int columns) where T : unmanaged, IElement
    {
        if (column + 8 <= columns)
        {
            if (tiles.Bias.IsNull) return Float8.All(0);
            if (tiles.Vectorized != 0) return tiles.Bias.Load8(column);
        }
        return new Float8
        {
            A = LoadBiasOrNone(tiles, column, columns),
            B = LoadBiasOrNone(tiles, column + 1, columns),
            C = LoadBiasOrNone(tiles, column + 2, columns),
            D = LoadBiasOrNone(tiles, column + 3, columns),
            E = LoadBiasOrNone(tiles, column + 4, columns),
            F = LoadBiasOrNone(tiles, column + 5, columns),
            G = LoadBiasOrNone(tiles, column + 6, columns),
            H = LoadBiasOrNone(tiles, column + 7, columns),
        };
    }

    private static float LoadBiasOrNone<T>(VocabularyTiles<T> tiles, int column, int columns) where T : unmanaged, IElement
    {
        if (column >= columns) return float.NegativeInfinity;
        return tiles.Bias.IsNull ? 0f : tiles.Bias.Load(column);
    }

    private static Float8 OneAt(int place) => new()
    {
        A = place == 0 ? 1f : 0f,
        B = place == 1 ? 1f : 0f,
        C = place == 2 ? 1f : 0f,
        D = place == 3 ? 1f : 0f,
        E = place == 4 ? 1f : 0f,
        F = place == 5 ? 1f : 0f,
        G = place == 6 ? 1f : 0f,
        H = place == 7 ? 1f : 0f,
    };

    private readonly struct PowerOfTwo : IScalarFunction
    {
        public static float Apply(float x) => DeviceMath.Exp2(x);
    }
}
