using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The matrix of similarities, for losses that need all of it (distillation); InfoNce does without.</summary>
internal static class ScoresOp
{
    extension(Tape tape)
    {
        /// <summary>q p^T / temperature: queries [B, D], passages [N, D] -> [B, N]. 2 B N D FLOP.</summary>
        public unsafe Tensor Scores(Tensor queries, Tensor passages, float temperature)
        {
            Check.NotEmpty("Scores", queries);
            Check.Shape("Scores", "passages", passages, passages.Rows, queries.Columns);
            Tensor scores = tape.Arena.Floats(queries.Rows, passages.Rows);
            if (tape.Device.IsCuda) return OnCuda(tape, queries, passages, temperature, scores);
            ArenaMark mark = tape.Arena.Mark();
            float* panels = Panels(tape, PackedMatrix.Length(passages.Rows, passages.Columns));
            WorkerTeam team = tape.Device.Team;
            PackedMatrix.Pack(team, passages.Floats, passages.RowStride, passages.Rows, passages.Columns, panels);
            Kernels.Cpu.Linear.Forward(team, queries.Floats, queries.RowStride, queries.Rows, queries.Columns, panels, null, passages.Rows,
                LinearEpilogue.None, null, 0, scores.Floats, scores.RowStride);
            tape.Arena.Rewind(mark);
            Scale(scores, 1 / temperature);
            if (tape.IsRecording)
            {
                tape.Record("Scores", scores, gradient =>
                {
                    Scale(gradient, 1 / temperature);
                    Backward(tape, queries, passages, gradient);
                });
            }
            return scores;
        }
    }

    private static Tensor OnCuda(Tape tape, Tensor queries, Tensor passages, float temperature, Tensor scores)
    {
        tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, queries, passages, temperature, scores);
        if (tape.IsRecording)
        {
            tape.Record("Scores", scores, gradient =>
            {
                GradientSlot dq = tape.Grad(queries), dp = tape.Grad(passages);
                tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, queries, passages, temperature, gradient, dq, dp);
            });
        }
        return scores;
    }

    private static void Forward<T>(Device device, Tensor queries, Tensor passages, float temperature, Tensor scores) where T : unmanaged, IElement =>
        Kernels.Cuda.Scores.Forward(device.Kernels, queries.Rows, passages.Rows, queries.Columns, queries.Matrix<T>(), passages.Matrix<T>(), temperature, scores.Matrix<FP32>());

    private static void Backward<T>(Device device, Tensor queries, Tensor passages, float temperature, Tensor gradient, GradientSlot dq, GradientSlot dp) where T : unmanaged, IElement =>
        Kernels.Cuda.Scores.Backward(device.Kernels, queries.Rows, passages.Rows, queries.Columns, queries.Matrix<T>(), passages.Matrix<T>(), temperature, gradient.Matrix<FP32>(),
            dq.Buffer.Matrix<T>(), dq.Accumulate, dp.Buffer.Matrix<T>(), dp.Accumulate, device.Workspace);

    private static unsafe void Backward(Tape tape, Tensor queries, Tensor passages, Tensor gradient)
    {
        WorkerTeam team = tape.Device.Team;
        Tensor dp = tape.GradToAddTo(passages);
        LinearBackward.Weight(team, gradient.Floats, gradient.RowStride, queries.Floats, queries.RowStride, queries.Rows, passages.Rows, queries.Columns,
            dp.Floats, dp.RowStride);
        float* panels = Panels(tape, PackedMatrix.Length(passages.Columns, passages.Rows));
        LinearBackward.PackTransposed(team, passages.Floats, passages.RowStride, passages.Rows, passages.Columns, panels);
        tape.AddProduct(queries, gradient, (nint)panels);
    }

    private static unsafe float* Panels(Tape tape, long floats) => tape.Arena.Activation(1, checked((int)floats)).Floats;

    private static void Scale(Tensor x, float factor)
    {
        for (int row = 0; row < x.Rows; row++)
            foreach (ref float value in x.RowSpan(row)) value *= factor;
    }
}
