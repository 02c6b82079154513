using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;
using CudaVisibleKeys = BgeMetal.Kernels.Cuda.VisibleKeys;

namespace BgeMetal.Ops;

/// <summary>The most rows that one sequence of a batch has: how much a GPU must be given to do.</summary>
internal readonly record struct Longest(int Queries, int Keys);

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
        public unsafe Tensor Attention(Tensor q, Tensor k, Tensor v, Tensor queryOffsets, Tensor keyOffsets, Longest longest, int numHeads, float dropout, int firstQuery = 0)
        {
            Check.NotEmpty("Attention", q);
            Check.Shape("Attention", "k", k, k.Rows, q.Columns);
            Check.Shape("Attention", "v", v, k.Rows, q.Columns);
            Check.Shape("Attention", "queryOffsets", queryOffsets, 1, keyOffsets.Columns);
            int headDim = q.Columns / numHeads, sequences = keyOffsets.Columns - 1;
            float scale = 1 / MathF.Sqrt(headDim);
            if (tape.Device.IsCuda) return OnCuda(tape, q, k, v, queryOffsets, keyOffsets, longest, numHeads, dropout, default, firstQuery);
            Tensor output = tape.Arena.Activation(q.Rows, q.Columns);
            if (!tape.IsRecording)
            {
                Kernels.Cpu.Attention.Forward(tape.Device.Team, q.Floats, q.RowStride, k.Floats, k.RowStride, v.Floats, v.RowStride,
                    queryOffsets.Ints, keyOffsets.Ints, sequences, numHeads, headDim, scale, output.Floats, output.RowStride, null);
                return output;
            }
            RecordOnCpu(tape, q, k, v, queryOffsets, keyOffsets, numHeads, dropout, firstQuery, output);
            return output;
        }
    }

    // Apart, because a closure's memory is taken where the method begins.
    private static unsafe void RecordOnCpu(Tape tape, Tensor q, Tensor k, Tensor v, Tensor queryOffsets, Tensor keyOffsets, int numHeads, float dropout, int firstQuery, Tensor output)
    {
        int headDim = q.Columns / numHeads, sequences = keyOffsets.Columns - 1;
        float scale = 1 / MathF.Sqrt(headDim);
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
    }

    /// <summary>On CUDA, with every key visible where <paramref name="visible"/> is the default value.</summary>
    internal static Tensor OnCuda(Tape tape, Tensor q, Tensor k, Tensor v, Tensor queryOffsets, Tensor keyOffsets, Longest longest, int numHeads, float dropout,
        CudaVisibleKeys visible, int firstQuery)
    {
        int headDim = q.Columns / numHeads;
        if (headDim % 8 != 0 || headDim > 128) throw new BgeMetalException($"device '{tape.Device.Name}'", $"attention heads have {headDim} columns, a multiple of 8 up to 128 was expected; use --device cpu");
        Tensor output = tape.Arena.Activation(q.Rows, q.Columns);
        Tensor logSumExp = tape.IsRecording ? tape.Arena.Floats(1, checked(numHeads * q.Rows)) : default;
        // Drawn whether it is needed or not, as on the CPU: the masks that follow are then the CPU's.
        Tensor seed = tape.IsRecording ? tape.NextSeedOnDevice() : default;
        DropoutMask mask = tape.IsRecording && dropout > 0 ? new(dropout, seed.Pointer<int>(), stream: 0, firstQuery) : default;
        Pass pass = new(tape.Device, new AttentionShape(keyOffsets.Columns - 1, q.Rows, longest.Queries, longest.Keys, numHeads, headDim, 1 / MathF.Sqrt(headDim)),
            q, k, v, queryOffsets, keyOffsets, mask, visible, output, logSumExp);
        tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(pass);
        if (tape.IsRecording) RecordOnCuda(tape, pass);
        return output;
    }

    private static void RecordOnCuda(Tape tape, Pass pass) =>
        tape.Record("Attention", pass.Output, gradient => tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape, pass, gradient));

    private static void Forward<T>(Pass pass) where T : unmanaged, IElement =>
        Kernels.Cuda.Attention.Forward(pass.Device.Kernels, pass.Shape, pass.Q.Matrix<T>(), pass.K.Matrix<T>(), pass.V.Matrix<T>(), pass.QueryOffsets.Pointer<int>(),
            pass.KeyOffsets.Pointer<int>(), pass.Mask, pass.Visible, pass.Output.Matrix<T>(), pass.LogSumExp.Pointer<FP32>());

    private static void Backward<T>(Tape tape, Pass pass, Tensor gradient) where T : unmanaged, IElement
    {
        Tensor dq = tape.Grad(pass.Q).Buffer, dk = tape.Grad(pass.K).Buffer, dv = tape.Grad(pass.V).Buffer;
        ArenaMark mark = tape.Arena.Mark();
        Tensor delta = tape.Arena.Floats(1, checked(pass.Shape.Heads * pass.Shape.Queries));
        Kernels.Cuda.Attention.Backward(pass.Device.Kernels, pass.Shape, pass.Q.Matrix<T>(), pass.K.Matrix<T>(), pass.V.Matrix<T>(), pass.QueryOffsets.Pointer<int>(),
            pass.KeyOffsets.Pointer<int>(), pass.Mask, pass.Visible, pass.Output.Matrix<T>(), pass.LogSumExp.Pointer<FP32>(), gradient.Matrix<T>(), dq.Matrix<T>(), dk.Matrix<T>(),
            dv.Matrix<T>(), delta.Pointer<FP32>());
        tape.Arena.Rewind(mark);
    }

    private sealed record Pass(Device Device, AttentionShape Shape, Tensor Q, Tensor K, Tensor V, Tensor QueryOffsets, Tensor KeyOffsets, DropoutMask Mask, CudaVisibleKeys Visible,
        Tensor Output, Tensor LogSumExp);
}
