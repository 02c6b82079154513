using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Primitives;
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
                Forward(tape.Device, x, default, default, gamma, beta, epsilon, default, y, mean, rstd);
            else
                Kernels.Cpu.LayerNorm.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, gamma.Floats, beta.Floats, epsilon,
                    y.Floats, y.RowStride, mean.Floats, rstd.Floats);
            if (tape.IsRecording) Record(tape, x, gamma, beta, mean, rstd, y);
            return y;
        }

        /// <summary>LayerNorm(dropout(x) + residual) [T, D]. Statistics in fp32. Row 0 is row firstRow of the dropout's whole mask.</summary>
        public unsafe Tensor AddLayerNorm(Tensor x, Tensor residual, Tensor gamma, Tensor beta, float epsilon, float dropout = 0, int firstRow = 0)
        {
            CheckShapes("AddLayerNorm", x, gamma, beta);
            Check.Shape("AddLayerNorm", "residual", residual, x.Rows, x.Columns);
            if (tape.Device.IsCuda) return AddOnCuda(tape, x, DropoutOp.NextMask(tape, dropout, firstRow), residual, gamma, beta, epsilon);
            x = tape.Dropout(x, dropout, firstRow);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            Tensor sum = tape.IsRecording ? tape.Arena.Activation(x.Rows, x.Columns) : default;
            (Tensor mean, Tensor rstd) = Statistics(tape, x.Rows);
            Kernels.Cpu.LayerNorm.AddForward(tape.Device.Team, x.Floats, x.RowStride, residual.Floats, residual.RowStride, x.Rows, x.Columns,
                gamma.Floats, beta.Floats, epsilon, sum.Floats, sum.RowStride, y.Floats, y.RowStride, mean.Floats, rstd.Floats);
            if (tape.IsRecording) RecordAdd(tape, x, default, residual, sum, gamma, beta, mean, rstd, y);
            return y;
        }
    }

    /// <summary>The dropout is part of the kernel.</summary>
    private static Tensor AddOnCuda(Tape tape, Tensor x, DropoutMask mask, Tensor residual, Tensor gamma, Tensor beta, float epsilon)
    {
        Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
        Tensor sum = tape.IsRecording ? tape.Arena.Activation(x.Rows, x.Columns) : default;
        (Tensor mean, Tensor rstd) = Statistics(tape, x.Rows);
        Forward(tape.Device, x, mask, residual, gamma, beta, epsilon, sum, y, mean, rstd);
        if (tape.IsRecording) RecordAdd(tape, x, mask, residual, sum, gamma, beta, mean, rstd, y);
        return y;
    }

    // Apart, because a closure's memory is taken where the method begins.
    private static void Record(Tape tape, Tensor x, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor y) => tape.Record("LayerNorm", y, dy =>
    {
        GradientSlot dx = tape.Grad(x);
        Backward(tape, x, dy, gamma, beta, mean, rstd, dx.Buffer, dx.Accumulate);
    });

    /// <summary>The mask is of a dropout that is part of the kernel (CUDA).</summary>
    private static void RecordAdd(Tape tape, Tensor x, DropoutMask mask, Tensor residual, Tensor sum, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor y) =>
        tape.Record("AddLayerNorm", y, dy =>
        {
            if (!mask.IsOn)
            {
                AddBackward(tape, x, residual, sum, dy, gamma, beta, mean, rstd);
                return;
            }
            GradientSlot dx = tape.Grad(x), dresidual = tape.Grad(residual);
            Tensor dropped = dx.Accumulate ? tape.Arena.Activation(x.Rows, x.Columns) : dx.Buffer;
            BackwardOnCuda(tape, sum, dy, gamma, beta, mean, rstd, dresidual.Buffer, dresidual.Accumulate, mask, dropped);
            if (dx.Accumulate) tape.AddGradient(x, dropped);
        });

    /// <summary>Without dropout both inputs have the gradient of their sum.</summary>
    private static void AddBackward(Tape tape, Tensor x, Tensor residual, Tensor sum, Tensor dy, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd)
    {
        GradientSlot dx = tape.Grad(x);
        Tensor dsum = dx.Accumulate ? tape.Arena.Activation(x.Rows, x.Columns) : dx.Buffer;
        Backward(tape, sum, dy, gamma, beta, mean, rstd, dsum, accumulate: false);
        tape.AddGradient(residual, dsum);
        if (dx.Accumulate) tape.AddGradient(x, dsum);
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
    private static void Forward(Device device, Tensor x, DropoutMask mask, Tensor residual, Tensor gamma, Tensor beta, float epsilon, Tensor sum, Tensor y, Tensor mean, Tensor rstd) =>
        device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(device, x, mask, residual, gamma, beta, epsilon, sum, y, mean, rstd);

    private static void Forward<T>(Device device, Tensor x, DropoutMask mask, Tensor residual, Tensor gamma, Tensor beta, float epsilon, Tensor sum, Tensor y, Tensor mean, Tensor rstd)
        where T : unmanaged, IElement =>
        Kernels.Cuda.LayerNorm.AddForward(device.Kernels, x.Matrix<T>(), mask, residual.Matrix<T>(), x.Rows, x.Columns, gamma.Pointer<T>(), beta.Pointer<T>(),
            epsilon, sum.Matrix<T>(), y.Matrix<T>(), mean.Pointer<FP32>(), rstd.Pointer<FP32>());

    private static unsafe void Backward(Tape tape, Tensor x, Tensor dy, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor dx, bool accumulate)
    {
        if (tape.Device.IsCuda)
        {
            BackwardOnCuda(tape, x, dy, gamma, beta, mean, rstd, dx, accumulate, default, default);
            return;
        }
        Tensor dgamma = tape.Parameters!.GradientOf(gamma), dbeta = tape.Parameters.GradientOf(beta);
        LayerNormBackward.Run(tape.Device.Team, x.Floats, x.RowStride, dy.Floats, dy.RowStride, x.Rows, x.Columns, gamma.Floats, mean.Floats, rstd.Floats,
            dx.Floats, dx.RowStride, accumulate, dgamma.Floats, dbeta.Floats);
    }

    private static void BackwardOnCuda(Tape tape, Tensor x, Tensor dy, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor dx, bool accumulate, DropoutMask mask, Tensor dropped) =>
        tape.Device.Choose(BackwardOnCuda<FP32>, BackwardOnCuda<BF16>, BackwardOnCuda<FP16>)(tape, x, dy, gamma, beta, mean, rstd, dx, accumulate, mask, dropped);

    private static void BackwardOnCuda<T>(Tape tape, Tensor x, Tensor dy, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, Tensor dx, bool accumulate, DropoutMask mask, Tensor dropped)
        where T : unmanaged, IElement
    {
        Tensor dgamma = tape.Parameters!.GradientOf(gamma), dbeta = tape.Parameters.GradientOf(beta);
        Kernels.Cuda.LayerNorm.Backward(tape.Device.Kernels, dy.Matrix<T>(), x.Matrix<T>(), x.Rows, x.Columns, gamma.Pointer<T>(), mean.Pointer<FP32>(), rstd.Pointer<FP32>(),
            accumulate, dx.Matrix<T>(), mask, dropped.Matrix<T>(), dgamma.Pointer<FP32>(), dbeta.Pointer<FP32>(), tape.Device.Workspace);
    }
}
