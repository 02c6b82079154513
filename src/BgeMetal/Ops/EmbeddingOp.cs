using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The input embeddings: the sum of three table rows a token, normalised.</summary>
internal static class EmbeddingOp
{
    extension(Tape tape)
    {
        /// <summary>LayerNorm(word[ids] + position[positions] + type[types]) [T, D]. The ids are trusted: the batch builder checked them.</summary>
        public unsafe Tensor EmbeddingLayerNorm(PackedTensors batch, Tensor word, Tensor position, Tensor type, Tensor gamma, Tensor beta, float epsilon)
        {
            if (batch.TotalTokens == 0) throw new ArgumentException("Embedding: the batch is empty");
            Tensor y = tape.Arena.Activation(batch.TotalTokens, word.Columns);
            Embedding.Forward(tape.Device.Team, batch.TokenIds.Ints, batch.PositionIds.Ints, batch.TokenTypeIds.Ints, batch.TotalTokens,
                word.Floats, position.Floats, type.Floats, word.Columns, gamma.Floats, beta.Floats, epsilon, y.Floats, y.RowStride);
            return y;
        }
    }
}
