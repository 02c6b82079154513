using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Layer normalisation over a row (Ba, Kiros and Hinton 2016, equation 4; biased variance), alone and after a residual addition.</summary>
internal static class LayerNormOp
{
    extension(Tape tape)
    {
        /// <summary>LayerNorm(x) [T, D]. Statistics in fp32.</summary>
        public unsafe Tensor LayerNorm(Tensor x, Tensor gamma, Tensor beta, float epsilon)
        {
            CheckShapes("LayerNorm", x, gamma, beta);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            (Tensor mean, Tensor rstd) = Statistics(tape, x.Rows);
            if (tape.Device.IsCuda)
                Forward(tape.Device, x, default, gamma, beta, epsilon, default, y, mean, rstd);
            else
                Kernels.Cpu.LayerNorm.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, gamma.Floats, beta.Floats, epsilon,
                    y.Floats, y.RowStride, mean.Floats, rstd.Floats);
            if (tape.IsRecording)
            {
                tape.Record("LayerNorm", y, dy =>
                {
                    GradientSlot dx = tape.Grad(x);
                    Backward(tape, x, dy, gamma, beta, mean, rstd, dx.Buffer, dx.Accumulate);
                });
            }
            return y;
        }

        /// <summary>LayerNorm(x + residual) [T, D]. Statistics in fp32.</summary>
        public unsafe Tensor AddLayerNorm(Tensor x, Tensor residual, Tensor gamma, Tensor beta, float epsilon)
        {
            CheckShapes("AddLayerNorm", x, gamma, beta);
            Check.Shape("AddLayerNorm", "residual", residual, x.Rows, x.Columns);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            Tensor sum = tape.IsRecording ? tape.Arena.Activation(x.Rows, x.Columns) : default;
            (Tensor mean, Tensor rstd) = Statistics(tape, x.Rows);
            if (tape.Device.IsCuda)
                Forward(tape.Device, x, residual, gamma, beta, epsilon, sum, y, mean, rstd);
            else
                Kernels.Cpu.LayerNorm.AddForward(tape.Device.Team, x.Floats, x.RowStride, residual.Floats, residual.RowStride, x.Rows, x.Columns,
                    gamma.Floats, beta.Floats, epsilon, sum.Floats, sum.RowStride, y.Floats, y.RowStride, mean.Floats, rstd.Floats);
            if (tape.IsRecording)
            {
                tape.Record("AddLayerNorm", y, dy =>
                {
                    GradientSlot dx = tape.Grad(x);
                    Tensor dsum = dx.Accumulate ? tape.Arena.Activation(x.Rows, x.Columns) : dx.Buffer;
                    Backward(tape, sum, dy, gamma, beta, mean, rstd, dsum, accumulate: false);
                    tape.AddGradient(residual, dsum);
                    if (dx.Accumulate) tape.AddGradient(x, dsum);
                });
            }
            return y;
        }
    }

    private static void CheckShapes(string operation, Tensor x, Tensor gamma, Tensor beta)
    {
        Check.NotEmpty(operation, x);
        Check.Shape(operation, "gamma", gamma, 1, x.Columns);
        Check.Shape(operation, "beta", beta, 1, x.Columns);
    }

    private static (Tensor Mean, Tensor Rstd) Statistics(Tape tape, int rows) =>
        tape.IsRecording ? (tape.Arena.Floats(1, rows), tape.Arena.Floats(1, rows)) : default;

    /// <summary>On CUDA, both forms: without a residual, without room for the sum, without room for the statistics where these are absent.</summary>
    internal static void Forward(Device device, Tensor x, Tensor residual, Tensor gamma, Tensor beta, float epsilon, Tensor sum, Tensor y, Tensor mean, Tensor rstd) =>
        device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(device, x, residual, gamma, beta, epsilon, sum, y, mean, rstd);

    private static void Forward<T>(Device device, Tensor x, Tensor residual, Tensor gamma, Tensor beta, float epsilon, Tensor sum, Tensor y, Tensor mean, Tensor rstd)
        where T : unmanaged, IElement =>
        Kernels.Cuda.LayerNorm.AddForward(device.Kernels, x.Matrix<T>(), default, residual.Matrix<T>(), x.Rows, x.Columns, gamma.Pointer<T>(), beta.Pointer<T>(),
            epsilon, sum.Matrix<T>(), y.Matrix<T>(), mean.Pointer<FP32>(), rstd.Pointer<FP32>());

    private static unsafe void Backward(Tape tape, Tensor x, Tensor dy, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor dx, bool accumulate)
    {
        Tensor dgamma = tape.Parameters!.GradientOf(gamma), dbeta = tape.Parameters.GradientOf(beta);
        if (tape.Device.IsCuda)
        {
            tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape.Device, x, dy, gamma, mean, rstd, dx, accumulate, dgamma, dbeta);
            return;
        }
        LayerNormBackward.Run(tape.Device.Team, x.Floats, x.RowStride, dy.Floats, dy.RowStride, x.Rows, x.Columns, gamma.Floats, mean.Floats, rstd.Floats,
            dx.Floats, dx.RowStride, accumulate, dgamma.Floats, dbeta.Floats);
    }

    private static void Backward<T>(Device device, Tensor x, Tensor dy, Tensor gamma, Tensor mean, Tensor rstd, Tensor dx, bool accumulate, Tensor dgamma, Tensor dbeta)
        where T : unmanaged, IElement =>
        Kernels.Cuda.LayerNorm.Backward(device.Kernels, dy.Matrix<T>(), x.Matrix<T>(), x.Rows, x.Columns, gamma.Pointer<T>(), mean.Pointer<FP32>(), rstd.Pointer<FP32>(),
            accumulate, dx.Matrix<T>(), default, default, dgamma.Pointer<FP32>(), dbeta.Pointer<FP32>(), device.Workspace);
}
