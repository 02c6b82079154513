using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>A column of scores as a matrix of groups.</summary>
internal static class RegroupOp
{
    extension(Tape tape)
    {
        /// <summary>scores [B*G, 1] -> [B, G], row by row.</summary>
        public Tensor Regroup(Tensor scores, int groupSize)
        {
            Check.NotEmpty("Regroup", scores);
            Check.Shape("Regroup", "scores", scores, scores.Rows / groupSize * groupSize, 1);
            if (tape.Device.IsCuda) return OnCuda(tape, scores, groupSize);
            Tensor groups = tape.Arena.Floats(scores.Rows / groupSize, groupSize);
            for (int i = 0; i < scores.Rows; i++) groups.RowSpan(i / groupSize)[i % groupSize] = scores.RowSpan(i)[0];
            if (tape.IsRecording)
            {
                tape.Record("Regroup", groups, gradient =>
                {
                    GradientSlot slot = tape.Grad(scores);
                    for (int i = 0; i < scores.Rows; i++)
                    {
                        ref float target = ref slot.Buffer.RowSpan(i)[0];
                        float part = gradient.RowSpan(i / groupSize)[i % groupSize];
                        target = slot.Accumulate ? target + part : part;
                    }
                });
            }
            return groups;
        }
    }

    private static Tensor OnCuda(Tape tape, Tensor scores, int groupSize)
    {
        Tensor groups = tape.Arena.Like(scores.DType, scores.Rows / groupSize, groupSize);
        scores.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, scores, groups);
        if (tape.IsRecording)
        {
            tape.Record("Regroup", groups, gradient =>
            {
                GradientSlot slot = tape.Grad(scores);
                scores.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, gradient, slot.Buffer, slot.Accumulate);
            });
        }
        return groups;
    }

    private static void Forward<T>(Device device, Tensor scores, Tensor groups) where T : unmanaged, IElement =>
        Kernels.Cuda.Regroup.Forward(device.Kernels, scores.Matrix<T>(), groups.Rows, groups.Columns, groups.Matrix<T>());

    private static void Backward<T>(Device device, Tensor gradient, Tensor dscores, bool accumulate) where T : unmanaged, IElement =>
        Kernels.Cuda.Regroup.Backward(device.Kernels, gradient.Matrix<T>(), gradient.Rows, gradient.Columns, dscores.Matrix<T>(), accumulate);
}
