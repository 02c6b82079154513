using BgeMetal.Autograd;
using BgeMetal.Kernels;
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
            if (tape.Device.IsCuda) return GatherOnCuda(tape, x, rows, y);
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
            if (tape.Device.IsCuda) return ReplaceOnCuda(tape, x, first, cuSeqlens, y);
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

    private static Tensor GatherOnCuda(Tape tape, Tensor x, Tensor rows, Tensor y)
    {
        tape.Device.Choose(Gather<FP32>, Gather<BF16>, Gather<FP16>)(tape.Device, x, rows, y, false);
        if (tape.IsRecording)
        {
            tape.Record("GatherRows", y, dy =>
                tape.Device.Choose(Scatter<FP32>, Scatter<BF16>, Scatter<FP16>)(tape.Device, dy, rows, tape.GradToAddTo(x), true));
        }
        return y;
    }

    private static Tensor ReplaceOnCuda(Tape tape, Tensor x, Tensor first, Tensor cuSeqlens, Tensor y)
    {
        Tensor starts = cuSeqlens.ColumnRange(0, first.Rows);
        y.CopyRows(x);
        tape.Device.Choose(Scatter<FP32>, Scatter<BF16>, Scatter<FP16>)(tape.Device, first, starts, y, false);
        if (tape.IsRecording)
        {
            tape.Record("ReplaceFirstRows", y, dy =>
            {
                GradientSlot dfirst = tape.Grad(first);
                tape.Device.Choose(Gather<FP32>, Gather<BF16>, Gather<FP16>)(tape.Device, dy, starts, dfirst.Buffer, dfirst.Accumulate);
                tape.Device.Choose(Clear<FP32>, Clear<BF16>, Clear<FP16>)(tape.Device, starts, dy);
                tape.AddGradient(x, dy);
            });
        }
        return y;
    }

    private static void Gather<T>(Device device, Tensor x, Tensor rows, Tensor y, bool accumulate) where T : unmanaged, IElement =>
        Kernels.Cuda.Rows.Gather(device.Kernels, x.Matrix<T>(), rows.Pointer<int>(), rows.Columns, x.Columns, y.Matrix<T>(), accumulate);

    private static void Scatter<T>(Device device, Tensor x, Tensor rows, Tensor y, bool accumulate) where T : unmanaged, IElement =>
        Kernels.Cuda.Rows.Scatter(device.Kernels, x.Matrix<T>(), rows.Pointer<int>(), rows.Columns, x.Columns, y.Matrix<T>(), accumulate);

    private static void Clear<T>(Device device, Tensor rows, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Rows.Clear(device.Kernels, rows.Pointer<int>(), rows.Columns, y.Columns, y.Matrix<T>());

    private static unsafe int At(Tensor indices, int i) => indices.Ints[i];
}
