using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Which keys each query of a packed batch sees, a bit a pair: see <see cref="MaskedAttention"/> for the layout.</summary>
/// <param name="Words">The bits of all sequences, two int32 a word [2 words].</param>
/// <param name="Starts">Each sequence's first word, int32 [B].</param>
internal readonly record struct VisibleKeys(Tensor Words, Tensor Starts);

/// <summary>Self-attention of packed sequences in which every query sees its own choice of keys.</summary>
internal static class MaskedAttentionOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// q, k and v [T, D] -> [T, D], sequence b being the rows offsets[b] .. offsets[b+1] of all three; scores are scaled by 1 / sqrt(D / numHeads). q, k and v
        /// are read by no other operation: their gradients are stored. No sequence is longer than <paramref name="longest"/>.
        /// </summary>
        public unsafe Tensor MaskedAttention(Tensor q, Tensor k, Tensor v, Tensor offsets, int longest, VisibleKeys visible, int numHeads, float dropout)
        {
            Check.NotEmpty("MaskedAttention", q);
            Check.Shape("MaskedAttention", "k", k, q.Rows, q.Columns);
            Check.Shape("MaskedAttention", "v", v, q.Rows, q.Columns);
            Check.Shape("MaskedAttention", "visible.Starts", visible.Starts, 1, offsets.Columns - 1);
            if (tape.Device.IsCuda)
            {
                return AttentionOp.OnCuda(tape, q, k, v, offsets, offsets, new Longest(longest, longest), numHeads, dropout,
                    new Kernels.Cuda.VisibleKeys(visible.Words.Pointer<int>(), visible.Starts.Pointer<int>()), firstQuery: 0);
            }
            int headDim = q.Columns / numHeads, sequences = offsets.Columns - 1;
            float scale = 1 / MathF.Sqrt(headDim), dropped = tape.IsRecording ? dropout : 0;
            Tensor output = tape.Arena.Activation(q.Rows, q.Columns), logSumExp = tape.Arena.Floats(1, checked(numHeads * q.Rows));
            ulong seed = tape.NextSeed();
            Kernels.Cpu.MaskedAttention.Forward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride, offsets.Ints, sequences,
                (ulong*)visible.Words.Ints, visible.Starts.Ints, numHeads, headDim, scale, output.Floats, output.RowStride, logSumExp.Floats, dropped, seed);
            if (tape.IsRecording)
            {
                tape.Record("MaskedAttention", output, gradient =>
                {
                    Tensor dq = tape.Grad(q).Buffer, dk = tape.Grad(k).Buffer, dv = tape.Grad(v).Buffer;
                    Kernels.Cpu.MaskedAttention.Backward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride,
                        output.Floats, output.RowStride, gradient.Floats, gradient.RowStride, logSumExp.Floats, offsets.Ints, sequences,
                        (ulong*)visible.Words.Ints, visible.Starts.Ints, numHeads, headDim, scale, dropped, seed,
                        dq.Floats, dq.RowStride, dk.Floats, dk.RowStride, dv.Floats, dv.RowStride);
                });
            }
            return output;
        }
    }
}
