using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>y = x W^T + bias.</summary>
internal readonly struct LinearForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> x = o.Matrix<T>(shape.Rows, shape.Inputs), w = o.Matrix<T>(shape.Outputs, shape.Inputs, 0.05f), y = o.Matrix<T>(shape.Rows, shape.Outputs);
        DevicePointer<T> bias = o.Values<T>(shape.Outputs);
        return () => Linear.Forward(o.Device, shape, x, w, bias, LinearActivation.None, default, default, y, o.Workspace);
    }
}

/// <summary>y = GELU(x W^T + bias), with what GELU saw kept for the backward pass.</summary>
internal readonly struct LinearGeluForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => Prepare<T>(o, s, training: true);

    /// <summary>The same, or as an encoder that is not trained calls it.</summary>
    public static Action Prepare<T>(CudaOperands o, BenchShape s, bool training) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> x = o.Matrix<T>(shape.Rows, shape.Inputs), w = o.Matrix<T>(shape.Outputs, shape.Inputs, 0.05f);
        DeviceMatrix<T> saved = training ? o.Matrix<T>(shape.Rows, shape.Outputs) : default, y = o.Matrix<T>(shape.Rows, shape.Outputs);
        DevicePointer<T> bias = o.Values<T>(shape.Outputs);
        return () => Linear.Forward(o.Device, shape, x, w, bias, LinearActivation.Gelu, saved, default, y, o.Workspace);
    }
}

/// <summary>y = GELU(x W^T + bias), with nothing kept.</summary>
internal readonly struct LinearGeluInferenceForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => LinearGeluForward.Prepare<T>(o, s, training: false);
}

/// <summary>y = x W^T + bias + residual.</summary>
internal readonly struct LinearResidualForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> x = o.Matrix<T>(shape.Rows, shape.Inputs), w = o.Matrix<T>(shape.Outputs, shape.Inputs, 0.05f);
        DeviceMatrix<T> residual = o.Matrix<T>(shape.Rows, shape.Outputs), y = o.Matrix<T>(shape.Rows, shape.Outputs);
        DevicePointer<T> bias = o.Values<T>(shape.Outputs);
        return () => Linear.Forward(o.Device, shape, x, w, bias, LinearActivation.None, default, residual, y, o.Workspace);
    }
}

/// <summary>dx = dy W.</summary>
internal readonly struct LinearInputGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> dy = o.Matrix<T>(shape.Rows, shape.Outputs), w = o.Matrix<T>(shape.Outputs, shape.Inputs, 0.05f), dx = o.Matrix<T>(shape.Rows, shape.Inputs);
        return () => Linear.BackwardInput(o.Device, shape, dy, w, default, accumulate: false, dx, o.Workspace);
    }
}

/// <summary>dx = (dy W) GELU'(saved).</summary>
internal readonly struct LinearGeluInputGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> dy = o.Matrix<T>(shape.Rows, shape.Outputs), w = o.Matrix<T>(shape.Outputs, shape.Inputs, 0.05f);
        DeviceMatrix<T> saved = o.Matrix<T>(shape.Rows, shape.Inputs), dx = o.Matrix<T>(shape.Rows, shape.Inputs);
        return () => Linear.BackwardInput(o.Device, shape, dy, w, saved, accumulate: false, dx, o.Workspace);
    }
}

/// <summary>dW += dy^T x.</summary>
internal readonly struct LinearWeightGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearShape shape = LinearOperands.Shape(s);
        DeviceMatrix<T> dy = o.Matrix<T>(shape.Rows, shape.Outputs, 0.01f), x = o.Matrix<T>(shape.Rows, shape.Inputs);
        DeviceMatrix<FP32> dw = o.Matrix<FP32>(shape.Outputs, shape.Inputs);
        return () => Linear.BackwardWeight(o.Device, shape, dy, x, dw, o.Workspace);
    }
}

/// <summary>dbias += the column sums of dy.</summary>
internal readonly struct LinearBiasGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], n = s["N"];
        DeviceMatrix<T> dy = o.Matrix<T>(t, n, 0.01f);
        DevicePointer<FP32> db = o.Values<FP32>(n);
        return () => Linear.BackwardBias(o.Device, t, n, dy, db, o.Workspace);
    }
}

/// <summary>dx = dy GELU'(saved), alone.</summary>
internal readonly struct GeluGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> dy = o.Matrix<T>(t, d), saved = o.Matrix<T>(t, d), dx = o.Matrix<T>(t, d);
        return () => Linear.BackwardActivation(o.Device, t, d, LinearActivation.Gelu, dy, saved, dx);
    }
}

/// <summary>Sizes of a linear layer.</summary>
internal static class LinearOperands
{
    /// <summary>T rows, K inputs, N outputs.</summary>
    public static LinearShape Shape(BenchShape s) => new(s["T"], s["K"], s["N"]);
}
