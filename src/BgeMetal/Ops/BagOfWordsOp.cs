using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The words of each text of a packed batch.</summary>
/// <param name="Words">The texts' words back to back, each text's distinct, int32 [N].</param>
/// <param name="Offsets">Text b's are Offsets[b] .. Offsets[b+1] of them, int32 [B+1].</param>
/// <param name="Weights">What a word of each text weighs, binary32 [1, B].</param>
internal readonly record struct WordBags(Tensor Words, Tensor Offsets, Tensor Weights);

/// <summary>DupMAE's bag-of-words loss through a tied output matrix, tile by tile: no [tokens, V] scores.</summary>
internal static class BagOfWordsOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// The mean over texts [1, 1] of -weight * sum over its words of log softmax(mu), where mu[v] is the largest score of output v over the text's tokens but the first
        /// (Xiao et al., arXiv:2211.08769, equations 6 to 8): x [T, D], <paramref name="table"/> [V, D] a trained table (its gradient is added to that of its
        /// look-ups), <paramref name="bias"/> [1, V], cuSeqlens int32 [B+1]. 2 T V D FLOP, 4 B V D in the backward pass; keeps 8 B V bytes.
        /// </summary>
        public unsafe Tensor BagOfWords(Tensor x, Tensor table, Tensor bias, Tensor cuSeqlens, WordBags bags)
        {
            int texts = cuSeqlens.Columns - 1;
            Check.NotEmpty("BagOfWords", x);
            Check.Shape("BagOfWords", "x", x, x.Rows, table.Columns);
            Check.Shape("BagOfWords", "bias", bias, 1, table.Rows);
            Check.Shape("BagOfWords", "bags.Offsets", bags.Offsets, 1, texts + 1);
            Check.Shape("BagOfWords", "bags.Weights", bags.Weights, 1, texts);
            Tensor loss = tape.Arena.Floats(1, 1), textLoss = tape.Arena.Floats(1, texts), logSumExp = tape.Arena.Floats(1, texts);
            Tensor maxima = tape.Arena.Floats(texts, table.Rows), tokens = tape.Arena.Integers(checked(texts * table.Rows));
            if (tape.Device.IsCuda)
            {
                CudaBag bag = new(x, table, bias, cuSeqlens, bags, maxima, tokens, logSumExp);
                tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, bag, textLoss, loss);
                if (tape.IsRecording)
                    tape.Record("BagOfWords", loss, gradient => tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape, bag, gradient));
                return loss;
            }
            loss.RowSpan(0)[0] = Kernels.Cpu.BagOfWords.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Columns, cuSeqlens.Ints, texts, skipped: 1,
                table.Floats, table.RowStride, table.Rows, bias.Floats, bags.Words.Ints, bags.Offsets.Ints, bags.Weights.Floats, maxima.Floats, maxima.RowStride,
                tokens.Ints, logSumExp.Floats, textLoss.Floats);
            if (tape.IsRecording)
            {
                tape.Record("BagOfWords", loss, gradient =>
                {
                    GradientSlot dx = tape.Grad(x);
                    Tensor dtable = tape.Parameters!.GradientOf(table), dbias = tape.Parameters.GradientOf(bias);
                    Kernels.Cpu.BagOfWords.Backward(tape.Device.Team, x.Floats, x.RowStride, x.Columns, cuSeqlens.Ints, texts, table.Floats, table.RowStride, table.Rows,
                        bags.Words.Ints, bags.Offsets.Ints, bags.Weights.Floats, maxima.Floats, maxima.RowStride, tokens.Ints, logSumExp.Floats,
                        gradient.RowSpan(0)[0], dx.Buffer.Floats, dx.Buffer.RowStride, dx.Accumulate, dtable.Floats, dtable.RowStride, dbias.Floats);
                });
            }
            return loss;
        }
    }

    private static void Forward<T>(Device device, CudaBag bag, Tensor textLoss, Tensor loss) where T : unmanaged, IElement =>
        Kernels.Cuda.BagOfWords.Forward(device.Kernels, bag.Shape, bag.Texts, bag.X.Matrix<T>(), bag.Table.Matrix<T>(), bag.Bias.Pointer<T>(), bag.Maxima, textLoss.Pointer<FP32>(),
            loss.Pointer<FP32>());

    private static void Backward<T>(Tape tape, CudaBag bag, Tensor gradient) where T : unmanaged, IElement
    {
        GradientSlot dx = tape.Grad(bag.X);
        Tensor dtable = tape.Parameters!.GradientOf(bag.Table), dbias = tape.Parameters.GradientOf(bag.Bias);
        Kernels.Cuda.BagOfWords.Backward(tape.Device.Kernels, bag.Shape, bag.Texts, bag.X.Matrix<T>(), bag.Table.Matrix<T>(), bag.Maxima, new DeviceScalar(1, gradient.Pointer<FP32>()),
            dx.Buffer.Matrix<T>(), dx.Accumulate, dtable.Matrix<FP32>(), dbias.Pointer<FP32>());
    }

    /// <summary>What both passes read.</summary>
    private sealed record CudaBag(Tensor X, Tensor Table, Tensor Bias, Tensor CuSeqlens, WordBags Bags, Tensor Scores, Tensor Tokens, Tensor LogSumExp)
    {
        public BagOfWordsShape Shape => new(CuSeqlens.Columns - 1, X.Rows, X.Columns, Table.Rows);

        public BagOfWordsTexts Texts => new(CuSeqlens.Pointer<int>(), 1, Bags.Words.Pointer<int>(), Bags.Offsets.Pointer<int>(), Bags.Weights.Pointer<FP32>());

        public BagOfWordsMaxima Maxima => new(Scores.Matrix<FP32>(), Tokens.Pointer<int>(), LogSumExp.Pointer<FP32>());
    }
}
