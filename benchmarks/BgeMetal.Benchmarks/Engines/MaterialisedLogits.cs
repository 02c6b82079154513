using System.Numerics.Tensors;
using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;
using Tensor = BgeMetal.Tensors.Tensor;

namespace BgeMetal.Benchmarks.Engines;

/// <summary>
/// The masked-LM loss as it is usually computed: all logits [rows, V] in memory from the forward pass to the backward pass, a softmax over them, and plain matrix products.
/// Kinder than PyTorch's, which keeps the logits, their log-softmax and a gradient: here the softmax and then the gradient take the place of the logits. The products are
/// those of the library; the table is packed 4096 rows at a time, so that no second copy of it is counted.
/// </summary>
internal static class MaterialisedLogits
{
    private const int BlockRows = 4096;

    /// <summary>Mean cross-entropy [1, 1] of softmax(x table^T + bias) against labels; a negative label does not count.</summary>
    public static unsafe Tensor CrossEntropy(Tape tape, Tensor x, Tensor table, Tensor bias, Tensor labels)
    {
        Tensor loss = tape.Arena.Activation(1, 1), rowLoss = tape.Arena.Activation(1, x.Rows), logits = tape.Arena.Activation(x.Rows, table.Rows);
        ArenaMark mark = tape.Arena.Mark();
        Tensor panels = tape.Arena.Activation(1, (int)PackedMatrix.Length(BlockRows, table.Columns));
        for (int first = 0; first < table.Rows; first += BlockRows)
        {
            int count = Math.Min(BlockRows, table.Rows - first);
            PackedMatrix.Pack(tape.Device.Team, table.Floats + ((nint)first * table.RowStride), table.RowStride, count, table.Columns, panels.Floats);
            Linear.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, panels.Floats, bias.Floats + first, count, LinearEpilogue.None, null, 0,
                logits.Floats + first, logits.RowStride);
        }
        tape.Arena.Rewind(mark);
        SoftmaxJob softmax = new() { Logits = logits.Floats, Stride = logits.RowStride, Columns = logits.Columns, Labels = labels.Ints, RowLoss = rowLoss.Floats };
        tape.Device.Team.Run(ref softmax, x.Rows);
        int counting = new ReadOnlySpan<int>(labels.Ints, x.Rows).ToArray().Count(label => label >= 0);
        double sum = 0;
        foreach (float value in rowLoss.RowSpan(0)) sum += value;
        loss.RowSpan(0)[0] = (float)(sum / Math.Max(counting, 1));
        tape.Record("MaterialisedLogits", loss, gradient => Backward(tape, x, table, bias, logits, gradient.RowSpan(0)[0] / Math.Max(counting, 1)));
        return loss;
    }

    private static unsafe void Backward(Tape tape, Tensor x, Tensor table, Tensor bias, Tensor logits, float scale)
    {
        WorkerTeam team = tape.Device.Team;
        ScaleJob job = new() { Logits = logits.Floats, Stride = logits.RowStride, Columns = logits.Columns, Factor = scale };
        team.Run(ref job, logits.Rows);
        GradientSlot slot = tape.Grad(x);
        Tensor dx = slot.Buffer, dtable = tape.Parameters!.GradientOf(table), dbias = tape.Parameters.GradientOf(bias);
        if (!slot.Accumulate)
            for (int row = 0; row < dx.Rows; row++) dx.RowSpan(row).Clear();
        ArenaMark mark = tape.Arena.Mark();
        Tensor panels = tape.Arena.Activation(1, (int)PackedMatrix.Length(table.Columns, BlockRows)), part = tape.Arena.Activation(dx.Rows, dx.Columns);
        for (int first = 0; first < table.Rows; first += BlockRows)
        {
            int count = Math.Min(BlockRows, table.Rows - first);
            float* block = logits.Floats + first;
            LinearBackward.PackTransposed(team, table.Floats + ((nint)first * table.RowStride), table.RowStride, count, table.Columns, panels.Floats);
            Linear.Forward(team, block, logits.RowStride, logits.Rows, count, panels.Floats, null, table.Columns, LinearEpilogue.None, null, 0, part.Floats, part.RowStride);
            for (int row = 0; row < dx.Rows; row++) TensorPrimitives.Add(dx.RowSpan(row), part.RowSpan(row), dx.RowSpan(row));
            LinearBackward.Weight(team, block, logits.RowStride, x.Floats, x.RowStride, x.Rows, count, x.Columns, dtable.Floats + ((nint)first * dtable.RowStride), dtable.RowStride);
        }
        LinearBackward.Bias(team, logits.Floats, logits.RowStride, logits.Rows, logits.Columns, dbias.Floats);
        tape.Arena.Rewind(mark);
    }

    /// <summary>One part turns a row of logits into softmax less one at the label.</summary>
    private unsafe struct SoftmaxJob : ITeamJob
    {
        public float* Logits;
        public nint Stride;
        public int Columns;
        public int* Labels;
        public float* RowLoss;

        public readonly void Execute(int part, int worker)
        {
            Span<float> row = new(Logits + (part * Stride), Columns);
            int label = Labels[part];
            RowLoss[part] = 0;
            if (label < 0)
            {
                row.Clear();
                return;
            }
            TensorPrimitives.SoftMax(row, row);
            RowLoss[part] = -MathF.Log(row[label]);
            row[label] -= 1;
        }
    }

    /// <summary>One part scales a row.</summary>
    private unsafe struct ScaleJob : ITeamJob
    {
        public float* Logits;
        public nint Stride;
        public int Columns;
        public float Factor;

        public readonly void Execute(int part, int worker)
        {
            Span<float> row = new(Logits + (part * Stride), Columns);
            TensorPrimitives.Multiply(row, Factor, row);
        }
    }
}
