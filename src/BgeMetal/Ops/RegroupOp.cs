using BgeMetal.Autograd;
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
}
