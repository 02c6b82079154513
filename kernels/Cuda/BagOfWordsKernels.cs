using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>A text's maxima, of which a block makes the loss or the gradients.</summary>
internal struct BagTextArguments
{
    /// <summary>[texts, vocabulary]: maxima; gradients afterwards in the backward pass.</summary>
    public DeviceMatrix<FP32> Scores;

    /// <summary>[texts].</summary>
    public DevicePointer<FP32> LogSumExp, TextLoss, WordWeights;

    /// <summary>As in <see cref="BagOfWordsTexts"/>.</summary>
    public DevicePointer<int> CuSeqlens, Words, WordOffsets;

    /// <summary>The gradient of a text's loss.</summary>
    public DeviceScalar Gradient;

    /// <summary>Rows at each text's start that take no part; outputs.</summary>
    public int Skipped, Vocabulary;
}

/// <summary>Where the gradients of the maxima go.</summary>
internal struct BagGradientArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, dim] and [vocabulary, dim].</summary>
    public DeviceMatrix<T> X, Weight, Dx;

    /// <summary>[vocabulary, dim]; [texts, vocabulary] gradients of the maxima.</summary>
    public DeviceMatrix<FP32> DWeight, Scores;

    /// <summary>[vocabulary], or null.</summary>
    public DevicePointer<FP32> DBias;

    /// <summary>[texts, vocabulary]; [texts + 1].</summary>
    public DevicePointer<int> Tokens, CuSeqlens;

    /// <summary>Sizes.</summary>
    public int Texts, Rows, Dim, Vocabulary;

    /// <summary>Nonzero when 16-byte accesses are allowed; nonzero to add to dx.</summary>
    public int Vectorized, Accumulate;
}

/// <summary>What becomes of the maxima: the texts' losses, and the gradients of the two matrices.</summary>
internal static class BagOfWordsKernels
{
    private const int Threads = 256;

    /// <summary>A block is a text: log-sum-exp and loss.</summary>
    [CudaKernel("BagOfWords", KernelDirection.Forward, Threads, Elements = ElementTypes.None, SharedBytes = 128 + SharedBlock.AlignmentSlack)]
    public static void Loss(BagTextArguments arguments)
    {
        int scratch = SharedBlock.Open(), text = Grid.IdxX;
        float largest = float.NegativeInfinity, sum = 0, loss = 0;
        for (int v = Group.IdxX; v < arguments.Vocabulary; v += Threads) largest = DeviceMath.Max(largest, arguments.Scores.Load(text, v));
        largest = Largest(largest, scratch);
        for (int v = Group.IdxX; v < arguments.Vocabulary; v += Threads) sum += DeviceMath.Exp(arguments.Scores.Load(text, v) - largest);
        float log = largest + DeviceMath.Log(BlockReduce.Sum(sum, scratch));
        int end = arguments.WordOffsets.Load(text + 1);
        for (int i = arguments.WordOffsets.Load(text) + Group.IdxX; i < end; i += Threads)
        {
            int word = arguments.Words.Load(i);
            loss += (uint)word < (uint)arguments.Vocabulary ? log - arguments.Scores.Load(text, word) : float.NaN;
        }
        loss = BlockReduce.Sum(loss, scratch);
        if (Group.IdxX != 0) return;
        bool isThere = arguments.CuSeqlens.Load(text + 1) - arguments.CuSeqlens.Load(text) > arguments.Skipped;
        arguments.LogSumExp.Store(text, log);
        arguments.TextLoss.Store(text, isThere ? loss * arguments.WordWeights.Load(text) : 0f);
    }

    /// <summary>A block is a text, whose maxima become their gradients: weight * (number of words * softmax - 1 at each word).</summary>
    [CudaKernel("BagOfWords", KernelDirection.Backward, Threads, Elements = ElementTypes.None)]
    public static void Scores(BagTextArguments arguments)
    {
        int text = Grid.IdxX, first = arguments.WordOffsets.Load(text), end = arguments.WordOffsets.Load(text + 1);
        float one = arguments.WordWeights.Load(text) * arguments.Gradient.Load(), all = one * (end - first), log = arguments.LogSumExp.Load(text);
        for (int v = Group.IdxX; v < arguments.Vocabulary; v += Threads)
            arguments.Scores.Store(text, v, end == first ? 0f : DeviceMath.Exp(arguments.Scores.Load(text, v) - log) * all);
        Group.Barrier();
        for (int i = first + Group.IdxX; i < end; i += Threads)
        {
            int word = arguments.Words.Load(i);
            if ((uint)word < (uint)arguments.Vocabulary) arguments.Scores.Store(text, word, arguments.Scores.Load(text, word) - one);
        }
    }

    /// <summary>A warp is 256 columns of an output, to which each text's winning row is added in the order of the texts.</summary>
    [CudaKernel("BagOfWords", KernelDirection.Backward, 128)]
    public static void Weights<T>(BagGradientArguments<T> arguments) where T : unmanaged, IElement
    {
        int output = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8;
        if (output >= arguments.Vocabulary) return;
        Float8 sum = Float8.All(0);
        float bias = 0;
        for (int text = 0; text < arguments.Texts; text++)
        {
            int token = arguments.Tokens.Load((long)text * arguments.Vocabulary + output);
            if (token < 0) continue;
            float gradient = arguments.Scores.Load(text, output);
            sum += Part(arguments, arguments.X, token, column) * gradient;
            bias += gradient;
        }
        if (column == 0 & !arguments.DBias.IsNull) arguments.DBias.Store(output, arguments.DBias.Load(output) + bias);
        Store(arguments, arguments.DWeight, output, column, sum, accumulate: 1);
    }

    /// <summary>A warp is 256 columns of a row, to which the outputs it won are added in their order; 32 of them are looked at at a time.</summary>
    [CudaKernel("BagOfWords", KernelDirection.Backward, 128)]
    public static void Inputs<T>(BagGradientArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), lane = Group.IdxX & 31, column = (Grid.IdxY * 32 + lane) * 8;
        if (row >= arguments.Rows) return;
        int text = TextOf(arguments, row);
        long tokens = (long)text * arguments.Vocabulary;
        Float8 sum = Float8.All(0);
        for (int first = 0; first < arguments.Vocabulary; first += 32)
        {
            int won = 0;
            if (first + lane < arguments.Vocabulary) won = arguments.Tokens.Load(tokens + first + lane) == row ? 1 : 0;
            for (int votes = WarpVote.Ballot(won); votes != 0; votes &= votes - 1)
            {
                int output = first + WarpVote.CountBits((votes & -votes) - 1);
                sum += Part(arguments, arguments.Weight, output, column) * arguments.Scores.Load(text, output);
            }
        }
        Store(arguments, arguments.Dx, row, column, sum, arguments.Accumulate);
    }

    // The last text that begins at or before the row, of those that begin together the last: the others are empty.
    private static int TextOf<T>(BagGradientArguments<T> arguments, int row) where T : unmanaged, IElement
    {
        int low = 0, high = arguments.Texts - 1;
        while (low < high)
        {
            int middle = (low + high + 1) >> 1;
            if (arguments.CuSeqlens.Load(middle) <= row) low = middle;
            else high = middle - 1;
        }
        return low;
    }

    private static Float8 Part<T>(BagGradientArguments<T> arguments, DeviceMatrix<T> values, int row, int column) where T : unmanaged, IElement =>
        arguments.Vectorized != 0 & column + 8 <= arguments.Dim ? values.Load8(row, column) : ColumnSum.LoadEdge(values, row, column, arguments.Dim);

    private static void Store<T, TTo>(BagGradientArguments<T> arguments, DeviceMatrix<TTo> target, int row, int column, Float8 sum, int accumulate)
        where T : unmanaged, IElement where TTo : unmanaged, IElement
    {
        if (arguments.Vectorized != 0 & column + 8 <= arguments.Dim)
        {
            target.Store8(row, column, accumulate != 0 ? target.Load8(row, column) + sum : sum);
            return;
        }
        StoreOne(target, row, column, arguments.Dim, sum.A, accumulate);
        StoreOne(target, row, column + 1, arguments.Dim, sum.B, accumulate);
        StoreOne(target, row, column + 2, arguments.Dim, sum.C, accumulate);
        StoreOne(target, row, column + 3, arguments.Dim, sum.D, accumulate);
        StoreOne(target, row, column + 4, arguments.Dim, sum.E, accumulate);
        StoreOne(target, row, column + 5, arguments.Dim, sum.F, accumulate);
        StoreOne(target, row, column + 6, arguments.Dim, sum.G, accumulate);
        StoreOne(target, row, column + 7, arguments.Dim, sum.H, accumulate);
    }

    private static void StoreOne<T>(DeviceMatrix<T> target, int row, int column, int columns, float value, int accumulate) where T : unmanaged, IElement
    {
        if (column >= columns) return;
        target.Store(row, column, accumulate != 0 ? target.Load(row, column) + value : value);
    }

    private static float Largest(float value, int scratch)
    {
        float warp = WarpReduce.Max(value);
        if ((Group.IdxX & 31) == 0) SharedBlock.Store(scratch + ((Group.IdxX >> 5) << 2), warp);
        Group.Barrier();
        float largest = SharedBlock.Load(scratch);
        for (int i = 1; i < Threads / 32; i++) largest = DeviceMath.Max(largest, SharedBlock.Load(scratch + (i << 2)));
        return largest;
    }
}
