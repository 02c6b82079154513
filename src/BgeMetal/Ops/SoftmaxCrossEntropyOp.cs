using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Primitives;
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
            if (tape.Device.IsCuda) return OnCuda(tape, logits, rowLoss, loss);
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

    private static Tensor OnCuda(Tape tape, Tensor logits, Tensor rowLoss, Tensor loss)
    {
        logits.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, logits, rowLoss, loss);
        if (tape.IsRecording)
        {
            tape.Record("FirstColumnCrossEntropy", loss, gradient =>
                logits.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, logits, gradient, tape.Grad(logits)));
        }
        return loss;
    }

    private static void Forward<T>(Device device, Tensor logits, Tensor rowLoss, Tensor loss) where T : unmanaged, IElement =>
        Kernels.Cuda.SoftmaxCrossEntropy.Forward(device.Kernels, logits.Matrix<T>(), logits.Rows, logits.Columns, default, rowLoss.Pointer<FP32>(), loss.Pointer<FP32>());

    private static void Backward<T>(Device device, Tensor logits, Tensor gradient, GradientSlot slot) where T : unmanaged, IElement =>
        Kernels.Cuda.SoftmaxCrossEntropy.Backward(device.Kernels, logits.Matrix<T>(), logits.Rows, logits.Columns, default, new DeviceScalar(1, gradient.Pointer<FP32>()),
            slot.Buffer.Matrix<T>(), slot.Accumulate);
}
