using BgeMetal.Autograd;
using BgeMetal.Kernels;
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
        for (int row = 0; row < scores.Rows; row++) teacherScores.AsSpan(row * groupSize, groupSize).CopyTo(teacher.RowSpan(row));
        Tensor loss = tape.Arena.Floats(1, 1), rowLoss = tape.Arena.Floats(1, scores.Rows);
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
}
