using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
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
            if (tape.Device.IsCuda) return OnCuda(tape, x, table, bias, labels);
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

    private static Tensor OnCuda(Tape tape, Tensor x, Tensor table, Tensor bias, Tensor labels)
    {
        Tensor result = tape.Arena.Floats(1, Kernels.Cuda.LinearCrossEntropy.ResultLength), rowLoss = tape.Arena.Floats(1, x.Rows), logSumExp = tape.Arena.Floats(1, x.Rows);
        Tensor loss = new(result.Device, result.Address + (Kernels.Cuda.LinearCrossEntropy.MeanIndex * sizeof(float)), DType.Float32, 1, 1, tape.Device.RowStride(1));
        tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, x, table, bias, labels, rowLoss, logSumExp, result);
        if (tape.IsRecording)
        {
            tape.Record("LinearCrossEntropy", loss, gradient =>
                tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape, x, table, bias, labels, logSumExp, result, gradient));
        }
        return loss;
    }

    private static LinearCrossEntropyShape Shape(Tensor x, Tensor table) => new(x.Rows, x.Columns, table.Rows);

    private static void Forward<T>(Device device, Tensor x, Tensor table, Tensor bias, Tensor labels, Tensor rowLoss, Tensor logSumExp, Tensor result) where T : unmanaged, IElement =>
        Kernels.Cuda.LinearCrossEntropy.Forward(device.Kernels, Shape(x, table), x.Matrix<T>(), table.Matrix<T>(), bias.Pointer<T>(), labels.Pointer<int>(),
            rowLoss.Pointer<FP32>(), logSumExp.Pointer<FP32>(), result.Pointer<FP32>(), device.Workspace);

    private static void Backward<T>(Tape tape, Tensor x, Tensor table, Tensor bias, Tensor labels, Tensor logSumExp, Tensor result, Tensor gradient) where T : unmanaged, IElement
    {
        GradientSlot dx = tape.Grad(x);
        Tensor dtable = tape.Parameters!.GradientOf(table), dbias = tape.Parameters.GradientOf(bias);
        Kernels.Cuda.LinearCrossEntropy.Backward(tape.Device.Kernels, Shape(x, table), x.Matrix<T>(), table.Matrix<T>(), bias.Pointer<T>(), labels.Pointer<int>(),
            logSumExp.Pointer<FP32>(), result.Pointer<FP32>(), gradient.Pointer<FP32>(), dx.Buffer.Matrix<T>(), dx.Accumulate, dtable.Matrix<FP32>(), dbias.Pointer<FP32>(),
            tape.Device.Workspace);
    }
}
