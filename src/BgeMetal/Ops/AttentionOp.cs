using BgeMetal.Autograd;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Multi-head scaled dot-product attention over packed sequences (Vaswani et al. 2017, equation 1), online softmax, no [L, L] matrix.</summary>
internal static class AttentionOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// q [Tq, D], k and v [Tk, D] -> [Tq, D]; sequence b's queries are the rows queryOffsets[b] .. queryOffsets[b+1] and look at the keys
        /// keyOffsets[b] .. keyOffsets[b+1]. Scores are scaled by 1 / sqrt(D / numHeads).
        /// </summary>
        public unsafe Tensor Attention(Tensor q, Tensor k, Tensor v, Tensor queryOffsets, Tensor keyOffsets, int numHeads)
        {
            Check.NotEmpty("Attention", q);
            Check.Shape("Attention", "k", k, k.Rows, q.Columns);
            Check.Shape("Attention", "v", v, k.Rows, q.Columns);
            Check.Shape("Attention", "queryOffsets", queryOffsets, 1, keyOffsets.Columns);
            int headDim = q.Columns / numHeads;
            Tensor output = tape.Arena.Activation(q.Rows, q.Columns);
            Kernels.Cpu.Attention.Forward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride,
                queryOffsets.Ints, keyOffsets.Ints, keyOffsets.Columns - 1, numHeads, headDim, 1 / MathF.Sqrt(headDim),
                output.Floats, output.RowStride, null);
            return output;
        }
    }
}
