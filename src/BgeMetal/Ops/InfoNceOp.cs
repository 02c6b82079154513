using BgeMetal.Autograd;
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
}
