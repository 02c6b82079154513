using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Losses that pull a matrix of similarities towards a teacher's scores.</summary>
internal static class DistillationOp
{
    extension(Tape tape)
    {
        /// <summary>FlagEmbedding's kl_div [1, 1]: cross-entropy of each row's own group with the teacher's softmax as soft targets.</summary>
        /// <inheritdoc cref="Distill"/>
        public Tensor SoftTargetCrossEntropy(Tensor scores, float[] teacherScores, int groupSize) =>
            Distill(tape, DistillationLoss.CrossEntropy, scores, teacherScores, groupSize, 1, 1);

        /// <summary>The LLM-Embedder's form [1, 1]: KL(softmax(teacher / teacherTemperature) || softmax(own group / studentTemperature)).</summary>
        /// <inheritdoc cref="Distill"/>
        public Tensor KlDivergence(Tensor scores, float[] teacherScores, int groupSize, float teacherTemperature, float studentTemperature) =>
            Distill(tape, DistillationLoss.Divergence, scores, teacherScores, groupSize, teacherTemperature, studentTemperature);

        /// <summary>FlagEmbedding's m3_kd_loss [1, 1], which is also the LLM-Embedder's stable distillation.</summary>
        /// <inheritdoc cref="Distill"/>
        public Tensor M3Distillation(Tensor scores, float[] teacherScores, int groupSize) =>
            Distill(tape, DistillationLoss.Staircase, scores, teacherScores, groupSize, 1, 1);
    }

    /// <summary>
    /// Scores [B, N] are already divided by the contrastive temperature; teacher scores are [B * groupSize]. Row b's group is its first groupSize columns
    /// when N is groupSize, else the columns from b * groupSize.
    /// </summary>
    private static unsafe Tensor Distill(
        Tape tape, DistillationLoss form, Tensor scores, float[] teacherScores, int groupSize, float teacherTemperature, float studentTemperature)
    {
        Check.NotEmpty("Distill", scores);
        if (teacherScores.Length != scores.Rows * groupSize)
            throw new ArgumentException($"Distill: {teacherScores.Length} teacher scores, expected {scores.Rows} x {groupSize}", nameof(teacherScores));
        Tensor teacher = tape.Arena.Floats(scores.Rows, groupSize);
        teacher.CopyFrom(teacherScores);
        Tensor loss = tape.Arena.Floats(1, 1), rowLoss = tape.Arena.Floats(1, scores.Rows);
        if (tape.Device.IsCuda) return OnCuda(tape, new Distillation(form, scores, teacher, teacherTemperature, studentTemperature), rowLoss, loss);
        loss.RowSpan(0)[0] = Kernels.Cpu.KlDivergence.Forward(form, tape.Device.Team, scores.Floats, scores.RowStride, scores.Rows, scores.Columns,
            teacher.Floats, teacher.RowStride, groupSize, teacherTemperature, studentTemperature, rowLoss.Floats);
        if (tape.IsRecording)
        {
            tape.Record("Distill", loss, gradient =>
            {
                GradientSlot slot = tape.Grad(scores);
                Kernels.Cpu.KlDivergence.Backward(form, tape.Device.Team, scores.Floats, scores.RowStride, scores.Rows, scores.Columns, teacher.Floats, teacher.RowStride,
                    groupSize, teacherTemperature, studentTemperature, gradient.RowSpan(0)[0], slot.Buffer.Floats, slot.Buffer.RowStride, slot.Accumulate);
            });
        }
        return loss;
    }

    private static Tensor OnCuda(Tape tape, Distillation distillation, Tensor rowLoss, Tensor loss)
    {
        Tensor scores = distillation.Scores;
        scores.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, distillation, rowLoss, loss);
        if (tape.IsRecording)
        {
            tape.Record("Distill", loss, gradient =>
                scores.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, distillation, gradient, tape.Grad(scores)));
        }
        return loss;
    }

    private static void Forward<T>(Device device, Distillation distillation, Tensor rowLoss, Tensor loss) where T : unmanaged, IElement =>
        Kernels.Cuda.KlDivergence.Forward(distillation.Form, device.Kernels, distillation.Scores.Matrix<T>(), distillation.Scores.Rows, distillation.Scores.Columns,
            distillation.Teacher.Matrix<FP32>(), distillation.Teacher.Columns, distillation.TeacherTemperature, distillation.StudentTemperature, rowLoss.Pointer<FP32>(), loss.Pointer<FP32>());

    private static void Backward<T>(Device device, Distillation distillation, Tensor gradient, GradientSlot slot) where T : unmanaged, IElement =>
        Kernels.Cuda.KlDivergence.Backward(distillation.Form, device.Kernels, distillation.Scores.Matrix<T>(), distillation.Scores.Rows, distillation.Scores.Columns,
            distillation.Teacher.Matrix<FP32>(), distillation.Teacher.Columns, distillation.TeacherTemperature, distillation.StudentTemperature,
            new DeviceScalar(1, gradient.Pointer<FP32>()), slot.Buffer.Matrix<T>(), slot.Accumulate);

    /// <summary>What is distilled.</summary>
    private readonly record struct Distillation(DistillationLoss Form, Tensor Scores, Tensor Teacher, float TeacherTemperature, float StudentTemperature);
}
