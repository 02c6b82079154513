using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Rows scaled to unit length.</summary>
internal static class NormalizeRowsOp
{
    extension(Tape tape)
    {
        /// <summary>x / max(|x|, 1e-12) row by row, [B, D].</summary>
        public unsafe Tensor NormalizeRows(Tensor x)
        {
            Check.NotEmpty("NormalizeRows", x);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            if (tape.Device.IsCuda)
                tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, x, y);
            else
                Kernels.Cpu.NormalizeRows.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, y.Floats, y.RowStride);
            if (tape.IsRecording)
            {
                tape.Record("NormalizeRows", y, dy =>
                {
                    if (tape.Device.IsCuda)
                    {
                        tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, x, dy);
                        tape.AddGradient(x, dy);
                        return;
                    }
                    GradientSlot dx = tape.Grad(x);
                    NormalizeRowsBackward.Run(tape.Device.Team, x.Floats, x.RowStride, dy.Floats, dy.RowStride, x.Rows, x.Columns,
                        dx.Buffer.Floats, dx.Buffer.RowStride, dx.Accumulate);
                });
            }
            return y;
        }
    }

    private static void Forward<T>(Device device, Tensor x, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.NormalizeRows.Forward(device.Kernels, x.Matrix<T>(), x.Rows, x.Columns, y.Matrix<T>());

    /// <summary>In place: dy becomes the input's gradient.</summary>
    private static void Backward<T>(Device device, Tensor x, Tensor dy) where T : unmanaged, IElement =>
        Kernels.Cuda.NormalizeRows.Backward(device.Kernels, dy.Matrix<T>(), x.Matrix<T>(), x.Rows, x.Columns, dy.Matrix<T>());
}
