using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Multi-head scaled dot-product attention over packed sequences (Vaswani et al. 2017, equation 1), online softmax, no [L, L] matrix.</summary>
internal static class AttentionOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// q [Tq, D], k and v [Tk, D] -> [Tq, D]; sequence b's queries are the rows queryOffsets[b] .. queryOffsets[b+1] and look at the keys
        /// keyOffsets[b] .. keyOffsets[b+1]. Scores are scaled by 1 / sqrt(D / numHeads); attention weights are dropped in training only. q, k and v are
        /// read by no other operation: their gradients are stored. Query row 0 is row firstQuery of the whole batch of which this is a part.
        /// </summary>
        public unsafe Tensor Attention(Tensor q, Tensor k, Tensor v, Tensor queryOffsets, Tensor keyOffsets, int numHeads, float dropout, int firstQuery = 0)
        {
            Check.NotEmpty("Attention", q);
            Check.Shape("Attention", "k", k, k.Rows, q.Columns);
            Check.Shape("Attention", "v", v, k.Rows, q.Columns);
            Check.Shape("Attention", "queryOffsets", queryOffsets, 1, keyOffsets.Columns);
            int headDim = q.Columns / numHeads, sequences = keyOffsets.Columns - 1;
            float scale = 1 / MathF.Sqrt(headDim);
            if (tape.Device.IsCuda) Check.NoKernel("Attention", tape.Device);
            Tensor output = tape.Arena.Activation(q.Rows, q.Columns);
            if (!tape.IsRecording)
            {
                Kernels.Cpu.Attention.Forward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride,
                    queryOffsets.Ints, keyOffsets.Ints, sequences, numHeads, headDim, scale, output.Floats, output.RowStride, null);
                return output;
            }
            Tensor logSumExp = tape.Arena.Floats(1, checked(numHeads * q.Rows));
            ulong seed = tape.NextSeed();
            AttentionTraining.Forward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride,
                queryOffsets.Ints, keyOffsets.Ints, sequences, numHeads, headDim, scale, output.Floats, output.RowStride, logSumExp.Floats, dropout, seed, firstQuery);
            tape.Record("Attention", output, gradient =>
            {
                Tensor dq = tape.Grad(q).Buffer, dk = tape.Grad(k).Buffer, dv = tape.Grad(v).Buffer;
                AttentionBackward.Run(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride, output.Floats, output.RowStride,
                    gradient.Floats, gradient.RowStride, logSumExp.Floats, queryOffsets.Ints, keyOffsets.Ints, sequences, numHeads, headDim, scale, dropout, seed,
                    dq.Floats, dq.RowStride, dk.Floats, dk.RowStride, dv.Floats, dv.RowStride, firstQuery);
            });
            return output;
        }
    }
}
