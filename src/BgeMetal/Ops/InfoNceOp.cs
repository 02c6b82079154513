using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The temperature-scaled contrastive loss (van den Oord et al. 2018, equation 4) over in-batch negatives or each query's own group.</summary>
internal static class InfoNceOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// Mean cross-entropy [1, 1] of queries [B, D] against passages [B*G, D]: scores q p^T / temperature, query i's target is passage i*G; all
        /// passages are candidates with <paramref name="inBatch"/>, only the query's own group without. The scores are never stored.
        /// </summary>
        public unsafe Tensor InfoNce(Tensor queries, Tensor passages, int groupSize, float temperature, bool inBatch)
        {
            Check.NotEmpty("InfoNce", queries);
            Check.Shape("InfoNce", "passages", passages, queries.Rows * groupSize, queries.Columns);
            int count = queries.Rows;
            Tensor loss = tape.Arena.Floats(1, 1);
            Tensor rowLoss = tape.Arena.Floats(1, count), logSumExp = tape.Arena.Floats(1, count);
            if (tape.Device.IsCuda)
            {
                Pass pass = new(tape.Device, queries, passages, new InfoNceShape(count, groupSize, queries.Columns), temperature, inBatch, logSumExp);
                tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(pass, rowLoss, loss);
                if (tape.IsRecording)
                    tape.Record("InfoNce", loss, gradient => tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(pass, gradient, tape.Grad(queries), tape.Grad(passages)));
                return loss;
            }
            loss.RowSpan(0)[0] = (float)Kernels.Cpu.InfoNce.Forward(tape.Device.Team, queries.Floats, queries.RowStride, passages.Floats, passages.RowStride,
                count, groupSize, queries.Columns, temperature, inBatch, rowLoss.Floats, logSumExp.Floats);
            if (tape.IsRecording)
            {
                tape.Record("InfoNce", loss, gradient =>
                {
                    GradientSlot dq = tape.Grad(queries), dp = tape.Grad(passages);
                    Kernels.Cpu.InfoNce.Backward(tape.Device.Team, queries.Floats, queries.RowStride, passages.Floats, passages.RowStride, count, groupSize,
                        queries.Columns, temperature, inBatch, logSumExp.Floats, gradient.RowSpan(0)[0],
                        dq.Buffer.Floats, dq.Buffer.RowStride, dq.Accumulate, dp.Buffer.Floats, dp.Buffer.RowStride, dp.Accumulate);
                });
            }
            return loss;
        }
    }

    private static void Forward<T>(Pass pass, Tensor rowLoss, Tensor loss) where T : unmanaged, IElement =>
        Kernels.Cuda.InfoNce.Forward(pass.Device.Kernels, pass.Shape, pass.Queries.Matrix<T>(), pass.Passages.Matrix<T>(), pass.Temperature, pass.InBatch,
            rowLoss.Pointer<FP32>(), pass.LogSumExp.Pointer<FP32>(), loss.Pointer<FP32>(), pass.Device.Workspace);

    private static void Backward<T>(Pass pass, Tensor gradient, GradientSlot dq, GradientSlot dp) where T : unmanaged, IElement =>
        Kernels.Cuda.InfoNce.Backward(pass.Device.Kernels, pass.Shape, pass.Queries.Matrix<T>(), pass.Passages.Matrix<T>(), pass.Temperature, pass.InBatch,
            pass.LogSumExp.Pointer<FP32>(), new DeviceScalar(1, gradient.Pointer<FP32>()), dq.Buffer.Matrix<T>(), dq.Accumulate, dp.Buffer.Matrix<T>(), dp.Accumulate,
            pass.Device.Workspace);

    private sealed record Pass(Device Device, Tensor Queries, Tensor Passages, InfoNceShape Shape, float Temperature, bool InBatch, Tensor LogSumExp);
}
