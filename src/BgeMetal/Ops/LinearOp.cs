using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>What follows a linear layer.</summary>
internal enum Activation
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>x Phi(x), with the exact error function (Hendrycks and Gimpel 2016).</summary>
    Gelu,

    /// <summary>The hyperbolic tangent.</summary>
    Tanh,
}

/// <summary>y = f(x W^T + b), the activation fused into the matmul's epilogue.</summary>
internal static class LinearOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// x [T, in] -> [T, out]; several layers side by side give their columns side by side (<see cref="LinearWeight.Part"/>).
        /// 2 T in out FLOP, and twice that in the backward pass.
        /// </summary>
        public Tensor Linear(Tensor x, LinearWeight weight, Activation activation = Activation.None)
        {
            Check.NotEmpty("Linear", x);
            Check.Shape("Linear", "x", x, x.Rows, weight.InFeatures);
            if (tape.Device.IsCuda) return OnCuda(tape, x, weight, activation);
            return tape.IsRecording ? Recorded(tape, x, weight, activation) : Forward(tape, x, weight, Epilogue(activation));
        }
    }

    private static Tensor Recorded(Tape tape, Tensor x, LinearWeight weight, Activation activation)
    {
        if (activation != Activation.Gelu)
        {
            Tensor y = Forward(tape, x, weight, Epilogue(activation));
            tape.Record("Linear", y, dy => Backward(tape, x, weight, activation == Activation.Tanh ? TanhBackward(tape, y, dy) : dy));
            return y;
        }
        Tensor preActivation = Forward(tape, x, weight, LinearEpilogue.None);
        Tensor activated = GeluForward(tape, preActivation);
        tape.Record("LinearGelu", activated, dy => Backward(tape, x, weight, GeluBackward(tape, preActivation, dy)));
        return activated;
    }

    private static Tensor OnCuda(Tape tape, Tensor x, LinearWeight weight, Activation activation)
    {
        Tensor y = tape.Arena.Activation(x.Rows, weight.OutColumns);
        Tensor preActivation = tape.IsRecording && activation == Activation.Gelu ? tape.Arena.Activation(x.Rows, weight.OutColumns) : default;
        tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, x, weight, activation, preActivation, y);
        if (tape.IsRecording) RecordOnCuda(tape, x, weight, activation, activation == Activation.Gelu ? preActivation : y, y);
        return y;
    }

    // Apart, because a closure's memory is taken where the method begins.
    private static void RecordOnCuda(Tape tape, Tensor x, LinearWeight weight, Activation activation, Tensor saved, Tensor y) =>
        tape.Record("Linear", y, dy => tape.Device.Choose(Backward<FP32>, Backward<BF16>, Backward<FP16>)(tape, x, weight, activation, saved, dy));

    private static void Forward<T>(Device device, Tensor x, LinearWeight weight, Activation activation, Tensor preActivation, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Linear.Forward(device.Kernels, Shape(x, weight), x.Matrix<T>(), weight.RowMajor.Matrix<T>(), weight.Bias.Pointer<T>(), Fused(activation),
            preActivation.Matrix<T>(), default, y.Matrix<T>(), device.Workspace);

    /// <summary>In place: dy becomes the gradient in front of the activation.</summary>
    private static void Backward<T>(Tape tape, Tensor x, LinearWeight weight, Activation activation, Tensor saved, Tensor dy) where T : unmanaged, IElement
    {
        KernelDevice kernels = tape.Device.Kernels;
        LinearShape shape = Shape(x, weight);
        Workspace workspace = tape.Device.Workspace;
        if (activation != Activation.None) Kernels.Cuda.Linear.BackwardActivation(kernels, dy.Rows, dy.Columns, Fused(activation), dy.Matrix<T>(), saved.Matrix<T>(), dy.Matrix<T>());
        Tensor dw = tape.Parameters!.GradientOf(weight.RowMajor), db = tape.Parameters.GradientOf(weight.Bias);
        Kernels.Cuda.Linear.BackwardWeight(kernels, shape, dy.Matrix<T>(), x.Matrix<T>(), dw.Matrix<FP32>(), workspace);
        Kernels.Cuda.Linear.BackwardBias(kernels, dy.Rows, dy.Columns, dy.Matrix<T>(), db.Pointer<FP32>(), workspace);
        GradientSlot dx = tape.Grad(x);
        Kernels.Cuda.Linear.BackwardInput(kernels, shape, dy.Matrix<T>(), weight.RowMajor.Matrix<T>(), default, dx.Accumulate, dx.Buffer.Matrix<T>(), workspace);
    }

    private static LinearShape Shape(Tensor x, LinearWeight weight) => new(x.Rows, weight.InFeatures, weight.OutColumns);

    private static LinearActivation Fused(Activation activation) => activation switch
    {
        Activation.Gelu => LinearActivation.Gelu,
        Activation.Tanh => LinearActivation.Tanh,
        _ => LinearActivation.None,
    };

    private static LinearEpilogue Epilogue(Activation activation) => activation switch
    {
        Activation.Gelu => LinearEpilogue.Gelu,
        Activation.Tanh => LinearEpilogue.Tanh,
        _ => LinearEpilogue.None,
    };

    private static unsafe Tensor Forward(Tape tape, Tensor x, LinearWeight weight, LinearEpilogue epilogue)
    {
        Tensor y = tape.Arena.Activation(x.Rows, weight.OutColumns);
        Kernels.Cpu.Linear.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, weight.Panels, weight.Bias.Floats, weight.OutColumns,
            epilogue, null, 0, y.Floats, y.RowStride);
        return y;
    }

    private static unsafe Tensor GeluForward(Tape tape, Tensor x)
    {
        Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
        Kernels.Cpu.Gelu.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, y.Floats, y.RowStride);
        return y;
    }

    /// <summary>In place: dy becomes the pre-activation's gradient.</summary>
    private static unsafe Tensor GeluBackward(Tape tape, Tensor x, Tensor dy)
    {
        Kernels.Cpu.Gelu.Backward(tape.Device.Team, x.Floats, x.RowStride, dy.Floats, dy.RowStride, x.Rows, x.Columns, dy.Floats, dy.RowStride);
        return dy;
    }

    private static unsafe Tensor TanhBackward(Tape tape, Tensor y, Tensor dy)
    {
        TanhGradient.Backward(tape.Device.Team, y.Floats, y.RowStride, dy.Floats, dy.RowStride, y.Rows, y.Columns, dy.Floats, dy.RowStride);
        return dy;
    }

    private static unsafe void Backward(Tape tape, Tensor x, LinearWeight weight, Tensor dy)
    {
        LinearMasters masters = weight.Masters!;
        WorkerTeam team = tape.Device.Team;
        for (int i = 0; i < weight.LayerCount; i++)
        {
            Tensor part = weight.LayerCount == 1 ? dy : weight.Part(dy, i);
            Tensor dw = tape.Parameters!.GradientOf(masters.Weights[i]), db = tape.Parameters.GradientOf(masters.Biases[i]);
            LinearBackward.Weight(team, part.Floats, part.RowStride, x.Floats, x.RowStride, x.Rows, part.Columns, x.Columns, dw.Floats, dw.RowStride);
            LinearBackward.Bias(team, part.Floats, part.RowStride, part.Rows, part.Columns, db.Floats);
            nint panels = (nint)masters.TransposedPanels(weight.Spec, i);
            tape.AddProduct(x, part, panels);
        }
    }
}
