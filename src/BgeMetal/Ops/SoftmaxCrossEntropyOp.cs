using BgeMetal.Autograd;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Cross-entropy over a small matrix of logits whose right column is the first.</summary>
internal static class SoftmaxCrossEntropyOp
{
    extension(Tape tape)
    {
        /// <summary>logits [B, G] -> [1, 1]: mean over rows of logSumExp(row) - row[0].</summary>
        public unsafe Tensor FirstColumnCrossEntropy(Tensor logits)
        {
            Check.NotEmpty("FirstColumnCrossEntropy", logits);
            Tensor loss = tape.Arena.Floats(1, 1), rowLoss = tape.Arena.Floats(1, logits.Rows);
            loss.RowSpan(0)[0] = Kernels.Cpu.SoftmaxCrossEntropy.Forward(tape.Device.Team, logits.Floats, logits.RowStride, logits.Rows, logits.Columns, null, rowLoss.Floats);
            if (tape.IsRecording)
            {
                tape.Record("FirstColumnCrossEntropy", loss, gradient =>
                {
                    GradientSlot slot = tape.Grad(logits);
                    Kernels.Cpu.SoftmaxCrossEntropy.Backward(tape.Device.Team, logits.Floats, logits.RowStride, logits.Rows, logits.Columns, null,
                        gradient.RowSpan(0)[0], slot.Buffer.Floats, slot.Buffer.RowStride, slot.Accumulate);
                });
            }
            return loss;
        }
    }
}
