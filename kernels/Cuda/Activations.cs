using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>GELU(x) = x Phi(x), with the error function and not its tanh approximation (Hendrycks and Gimpel, 2016).</summary>
internal readonly struct Gelu : IScalarFunction
{
    public static float Apply(float x) => 0.5f * x * (1 + DeviceMath.Erf(x * 0.70710678f));
}

/// <summary>GELU'(x) = Phi(x) + x phi(x).</summary>
internal readonly struct GeluDerivative : IScalarFunction
{
    public static float Apply(float x) => 0.5f * (1 + DeviceMath.Erf(x * 0.70710678f)) + x * 0.39894228f * DeviceMath.Exp(-0.5f * x * x);
}

/// <summary>The hyperbolic tangent.</summary>
internal readonly struct Tanh : IScalarFunction
{
    public static float Apply(float x) => DeviceMath.Tanh(x);
}

/// <summary>1 - y^2: tanh'(x) from y = tanh(x).</summary>
internal readonly struct TanhDerivative : IScalarFunction
{
    public static float Apply(float y) => 1 - y * y;
}

/// <summary>dx = dy * f'(saved), element by element, over [rows, columns].</summary>
internal struct ActivationArguments<T> where T : unmanaged, IElement
{
    /// <summary>The incoming gradient, what f' is taken of, and the outgoing gradient, which may be the incoming one.</summary>
    public DeviceMatrix<T> Gradient, Saved, Output;

    /// <summary>Sizes.</summary>
    public int Rows, Columns;

    /// <summary>Nonzero when all rows start at multiples of 16 bytes.</summary>
    public int Vectorized;
}

/// <summary>Gradients of activations where no matrix product is near to fuse them into. A warp takes 256 columns of a row. Reads 2 and writes 1 element each.</summary>
internal static class Activations
{
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(GeluDerivative))]
    [CudaKernel("Linear", KernelDirection.Backward, 128, typeof(TanhDerivative))]
    public static void Backward<T, TFunction>(ActivationArguments<T> arguments) where T : unmanaged, IElement where TFunction : struct, IScalarFunction
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8;
        if (row >= arguments.Rows) return;
        if (arguments.Vectorized != 0 & column + 8 <= arguments.Columns)
            arguments.Output.Store8(row, column, arguments.Gradient.Load8(row, column) * arguments.Saved.Load8(row, column).Map<TFunction>());
        else
            for (int c = column; c < Math.Min(column + 8, arguments.Columns); c++)
                arguments.Output.Store(row, c, arguments.Gradient.Load(row, c) * TFunction.Apply(arguments.Saved.Load(row, c)));
    }
}
