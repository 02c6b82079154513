using BgeMetal.Autograd;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Arithmetic on losses.</summary>
internal static class ScalarOp
{
    extension(Tape tape)
    {
        /// <summary>sum_i weights[i] * losses[i], each loss [1, 1].</summary>
        public Tensor WeightedSum(IReadOnlyList<Tensor> losses, IReadOnlyList<float> weights)
        {
            Tensor sum = tape.Arena.Floats(1, 1);
            if (tape.Device.IsCuda) return OnCuda(tape, losses, weights, sum);
            double value = 0;
            for (int i = 0; i < losses.Count; i++) value += (double)weights[i] * losses[i].RowSpan(0)[0];
            sum.RowSpan(0)[0] = (float)value;
            if (tape.IsRecording)
            {
                tape.Record("WeightedSum", sum, gradient =>
                {
                    for (int i = 0; i < losses.Count; i++)
                    {
                        GradientSlot slot = tape.Grad(losses[i]);
                        float part = weights[i] * gradient.RowSpan(0)[0];
                        slot.Buffer.RowSpan(0)[0] = slot.Accumulate ? slot.Buffer.RowSpan(0)[0] + part : part;
                    }
                });
            }
            return sum;
        }
    }

    private static Tensor OnCuda(Tape tape, IReadOnlyList<Tensor> losses, IReadOnlyList<float> weights, Tensor sum)
    {
        for (int i = 0; i < losses.Count; i++) GradientAdditionOp.AddScaled(tape.Device, losses[i], weights[i], accumulate: i > 0, sum);
        if (tape.IsRecording)
        {
            tape.Record("WeightedSum", sum, gradient =>
            {
                for (int i = 0; i < losses.Count; i++)
                {
                    GradientSlot slot = tape.Grad(losses[i]);
                    GradientAdditionOp.AddScaled(tape.Device, gradient, weights[i], slot.Accumulate, slot.Buffer);
                }
            });
        }
        return sum;
    }
}
