using BgeMetal.Autograd;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Choosing and replacing rows.</summary>
internal static class RowOp
{
    extension(Tape tape)
    {
        /// <summary>The rows of x [T, D] at the distinct indices rows, int32 [R] -> [R, D].</summary>
        public Tensor GatherRows(Tensor x, Tensor rows)
        {
            Check.NotEmpty("GatherRows", x);
            Tensor y = tape.Arena.Activation(rows.Columns, x.Columns);
            for (int i = 0; i < y.Rows; i++) x.RowSpan(At(rows, i)).CopyTo(y.RowSpan(i));
            if (tape.IsRecording)
            {
                tape.Record("GatherRows", y, dy =>
                {
                    Tensor dx = tape.GradToAddTo(x);
                    for (int i = 0; i < dy.Rows; i++) GradientAdditionOp.Add(dy.RowSpan(i), dx.RowSpan(At(rows, i)));
                });
            }
            return y;
        }

        /// <summary>x [T, D] with each sequence's first row replaced by that of first [B, D]; sequence b starts at row cuSeqlens[b].</summary>
        public Tensor ReplaceFirstRows(Tensor x, Tensor first, Tensor cuSeqlens)
        {
            Check.NotEmpty("ReplaceFirstRows", x);
            Check.Shape("ReplaceFirstRows", "first", first, cuSeqlens.Columns - 1, x.Columns);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            for (int row = 0; row < x.Rows; row++) x.RowSpan(row).CopyTo(y.RowSpan(row));
            for (int b = 0; b < first.Rows; b++) first.RowSpan(b).CopyTo(y.RowSpan(At(cuSeqlens, b)));
            if (tape.IsRecording)
            {
                tape.Record("ReplaceFirstRows", y, dy =>
                {
                    Tensor dfirst = tape.GradToAddTo(first);
                    for (int b = 0; b < first.Rows; b++)
                    {
                        GradientAdditionOp.Add(dy.RowSpan(At(cuSeqlens, b)), dfirst.RowSpan(b));
                        dy.RowSpan(At(cuSeqlens, b)).Clear();
                    }
                    tape.AddGradient(x, dy);
                });
            }
            return y;
        }
    }

    private static unsafe int At(Tensor indices, int i) => indices.Ints[i];
}
