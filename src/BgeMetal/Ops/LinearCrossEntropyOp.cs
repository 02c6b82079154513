using BgeMetal.Autograd;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The masked-LM loss through a tied output matrix, tile by tile: no [rows, V] logits.</summary>
internal static class LinearCrossEntropyOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// Mean cross-entropy [1, 1] of softmax(x table^T + bias) against labels: x [R, D], <paramref name="table"/> [V, D] a trained table (its gradient is
        /// added to that of its look-ups), <paramref name="bias"/> [1, V], labels int32 [R]. 2 R V D FLOP, and 6 R V D in the backward pass.
        /// </summary>
        public unsafe Tensor LinearCrossEntropy(Tensor x, Tensor table, Tensor bias, Tensor labels)
        {
            Check.NotEmpty("LinearCrossEntropy", x);
            Check.Shape("LinearCrossEntropy", "x", x, labels.Columns, table.Columns);
            Check.Shape("LinearCrossEntropy", "bias", bias, 1, table.Rows);
            Tensor loss = tape.Arena.Floats(1, 1), rowLoss = tape.Arena.Floats(1, x.Rows), logSumExp = tape.Arena.Floats(1, x.Rows);
            loss.RowSpan(0)[0] = Kernels.Cpu.LinearCrossEntropy.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, table.Floats, table.RowStride,
                table.Rows, bias.Floats, labels.Ints, rowLoss.Floats, logSumExp.Floats);
            if (tape.IsRecording)
            {
                tape.Record("LinearCrossEntropy", loss, gradient =>
                {
                    GradientSlot dx = tape.Grad(x);
                    Tensor dtable = tape.Parameters!.GradientOf(table), dbias = tape.Parameters.GradientOf(bias);
                    Kernels.Cpu.LinearCrossEntropy.Backward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, table.Floats, table.RowStride, table.Rows,
                        bias.Floats, labels.Ints, logSumExp.Floats, gradient.RowSpan(0)[0], dx.Buffer.Floats, dx.Buffer.RowStride, dx.Accumulate,
                        dtable.Floats, dtable.RowStride, dbias.Floats);
                });
            }
            return loss;
        }
    }
}
