using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes: x [Rows, Dim] of all texts, the output matrix [Vocabulary, Dim].</summary>
public readonly record struct BagOfWordsShape(int Texts, int Rows, int Dim, int Vocabulary);

/// <summary>The texts and their words.</summary>
/// <param name="CuSeqlens">[texts + 1]: text b is the rows CuSeqlens[b] .. CuSeqlens[b + 1].</param>
/// <param name="Skipped">Rows at each text's start that take no part: 1 leaves the CLS vector out.</param>
/// <param name="Words">The texts' words back to back, each text's distinct.</param>
/// <param name="WordOffsets">[texts + 1]: text b's words are WordOffsets[b] .. WordOffsets[b + 1] of them.</param>
/// <param name="WordWeights">[texts]: what a word of text b weighs.</param>
public readonly record struct BagOfWordsTexts(DevicePointer<int> CuSeqlens, int Skipped, DevicePointer<int> Words, DevicePointer<int> WordOffsets, DevicePointer<FP32> WordWeights);

/// <summary>What the forward pass leaves for the backward pass.</summary>
/// <param name="Scores">[texts, vocabulary]: each output's largest score, 0 for a text without tokens; the backward pass overwrites them.</param>
/// <param name="Tokens">[texts, vocabulary], without gaps: the row of x that each came from; -1 for a text without tokens.</param>
/// <param name="LogSumExp">[texts].</param>
public readonly record struct BagOfWordsMaxima(DeviceMatrix<FP32> Scores, DevicePointer<int> Tokens, DevicePointer<FP32> LogSumExp);

/// <summary>
/// The bag-of-words loss of DupMAE (Xiao et al., arXiv:2211.08769, equations 6 to 8): mu[b, v] = max over the rows i of text b of x[i] . W[v] + bias[v]; the text's words are to be
/// likely under softmax(mu[b]). The [tokens, vocabulary] scores never exist: a block takes a text and a tile of outputs, goes through the text's rows, and keeps each output's largest
/// score and the row it came from (of equals the first), 8 bytes an output and text. Only that row has a gradient. Nothing is added up in an order that could change: dW sums over texts,
/// dx over the outputs that a row won, both in order. Cost: forward 2 T V D FLOP, rows of a text rounded up to its tile; backward 4 B V D FLOP and reads 2 B V D elements from the
/// second-level cache, besides the tokens, once for every row and 256 columns. Predicted, not measured on a GPU.
/// </summary>
public static class BagOfWords
{
    /// <summary>loss = the mean over texts of -weight * sum over the text's words of log softmax(mu); NaN when a score is not finite or a word not in the vocabulary.</summary>
    /// <param name="device">Where to run.</param>
    /// <param name="shape">Sizes, all positive.</param>
    /// <param name="texts">The texts.</param>
    /// <param name="x">[rows, dim].</param>
    /// <param name="weight">[vocabulary, dim].</param>
    /// <param name="bias">[vocabulary], or absent.</param>
    /// <param name="maxima">Written.</param>
    /// <param name="textLoss">[texts] receives each text's loss; 0 for one without words or tokens.</param>
    /// <param name="loss">One binary32.</param>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, BagOfWordsShape shape, BagOfWordsTexts texts, DeviceMatrix<T> x, DeviceMatrix<T> weight, DevicePointer<T> bias,
        BagOfWordsMaxima maxima, DevicePointer<FP32> textLoss, DevicePointer<FP32> loss) where T : unmanaged, IElement
    {
        Check(device, shape);
        GemmPlan plan = GemmPlan.Choose<T, Nt>(device, shape.Rows, shape.Vocabulary, shape.Dim, x, weight, default);
        // The small tile wastes less where texts are short.
        bool large = !plan.TensorCores || (shape.Rows > 64L * shape.Texts && device.SharedMemoryPerBlock >= Tile128.SharedBytes);
        plan = plan with { LargeTile = large };
        GemmArguments<BagTiles<T>> arguments = plan.Arguments(new BagTiles<T>
        {
            Bias = bias,
            CuSeqlens = texts.CuSeqlens,
            Tokens = maxima.Tokens,
            Maxima = maxima.Scores,
            Skipped = texts.Skipped,
            Vocabulary = shape.Vocabulary,
        });
        // Neighbouring blocks share a tile of the output matrix.
        GridSize grid = new(shape.Texts, (shape.Vocabulary + plan.Block - 1) / plan.Block);
        if (!plan.TensorCores) device.Launch(BagOfWordsMaximaKernels.MaximaExact<T>, grid, arguments);
        else if (large) device.Launch(BagOfWordsMaximaKernels.Maxima<T, Tile128, Accumulator128>, grid, arguments);
        else device.Launch(BagOfWordsMaximaKernels.Maxima<T, Tile64, Accumulator32>, grid, arguments);
        device.Launch(BagOfWordsKernels.Loss, new GridSize(shape.Texts), TextArguments(shape, texts, maxima) with { TextLoss = textLoss });
        MeanLossKernels.Launch(device, textLoss, default, shape.Texts, loss);
    }

    /// <summary>dx (stored or added), dweight and dbias (added). The maxima become their gradients.</summary>
    /// <param name="device">Where to run.</param>
    /// <param name="shape">As in the forward pass.</param>
    /// <param name="texts">As in the forward pass.</param>
    /// <param name="x">As in the forward pass.</param>
    /// <param name="weight">As in the forward pass.</param>
    /// <param name="maxima">From the forward pass; the scores are overwritten.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dx">[rows, dim]; rows that gave no maximum get 0.</param>
    /// <param name="accumulateDx">Adds to dx instead of storing.</param>
    /// <param name="dWeight">[vocabulary, dim].</param>
    /// <param name="dBias">[vocabulary], or absent.</param>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Backward<T>(KernelDevice device, BagOfWordsShape shape, BagOfWordsTexts texts, DeviceMatrix<T> x, DeviceMatrix<T> weight, BagOfWordsMaxima maxima,
        DeviceScalar lossGradient, DeviceMatrix<T> dx, bool accumulateDx, DeviceMatrix<FP32> dWeight, DevicePointer<FP32> dBias) where T : unmanaged, IElement
    {
        Check(device, shape);
        device.Launch(BagOfWordsKernels.Scores, new GridSize(shape.Texts), TextArguments(shape, texts, maxima) with { Gradient = lossGradient * (1f / shape.Texts) });
        BagGradientArguments<T> arguments = new()
        {
            X = x,
            Weight = weight,
            Dx = dx,
            DWeight = dWeight,
            Scores = maxima.Scores,
            DBias = dBias,
            Tokens = maxima.Tokens,
            CuSeqlens = texts.CuSeqlens,
            Texts = shape.Texts,
            Rows = shape.Rows,
            Dim = shape.Dim,
            Vocabulary = shape.Vocabulary,
            Vectorized = x.IsAligned && weight.IsAligned && dx.IsAligned && dWeight.IsAligned ? 1 : 0,
            Accumulate = accumulateDx ? 1 : 0,
        };
        int columns = (shape.Dim + 255) / 256;
        device.Launch(BagOfWordsKernels.Weights<T>, new GridSize((shape.Vocabulary + 3) / 4, columns), arguments);
        device.Launch(BagOfWordsKernels.Inputs<T>, new GridSize((shape.Rows + 3) / 4, columns), arguments);
    }

    private static BagTextArguments TextArguments(BagOfWordsShape shape, BagOfWordsTexts texts, BagOfWordsMaxima maxima) => new()
    {
        Scores = maxima.Scores,
        LogSumExp = maxima.LogSumExp,
        WordWeights = texts.WordWeights,
        CuSeqlens = texts.CuSeqlens,
        Words = texts.Words,
        WordOffsets = texts.WordOffsets,
        Skipped = texts.Skipped,
        Vocabulary = shape.Vocabulary,
    };

    private static void Check(KernelDevice device, BagOfWordsShape shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (shape.Texts <= 0 || shape.Rows <= 0 || shape.Dim <= 0 || shape.Vocabulary <= 0) throw new ArgumentException($"sizes must be positive: {shape}", nameof(shape));
    }
}
