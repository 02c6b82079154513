using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes of a linear layer's product: y [rows, outputs] = x [rows, inputs] W^T, W [outputs, inputs].</summary>
public readonly record struct LinearShape(int Rows, int Inputs, int Outputs);

/// <summary>What follows the product and the bias.</summary>
public enum LinearActivation
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>x Phi(x), with the error function.</summary>
    Gelu,

    /// <summary>The hyperbolic tangent.</summary>
    Tanh,
}

/// <summary>
/// Device memory for intermediate sums; its size bounds how far a product is split along its depth and how many slabs a column sum has, and so decides
/// the order of sums: results are reproducible for the same device, shapes and workspace size.
/// </summary>
/// <param name="Start">A 256-byte aligned address, or null for none.</param>
/// <param name="Length">Binary32 elements.</param>
public readonly record struct Workspace(DevicePointer<FP32> Start, long Length);

/// <summary>
/// Linear layers, forward and backward. bf16 and fp16 run on the tensor cores with binary32 accumulation wherever sizes and addresses allow it (the
/// contiguous sizes multiples of 8, rows 16-byte aligned), else, and in binary32 always, as fused multiply-adds. 2 * rows * inputs * outputs
/// FLOP each way. Everything is enqueued; nothing waits.
/// </summary>
public static class Linear
{
    /// <summary>A workspace of this many elements lets every call choose freely.</summary>
    public const long AmpleWorkspace = 64L << 20;

    /// <summary>
    /// y = f(x W^T + bias) + residual. <paramref name="bias"/> may be absent; <paramref name="residual"/> (no activation then) may be absent or y itself;
    /// <paramref name="preActivation"/>, where present, receives x W^T + bias for the backward pass of GELU.
    /// </summary>
    /// <exception cref="ArgumentException">A size is not positive, or a residual is combined with an activation.</exception>
    public static void Forward<T>(KernelDevice device, LinearShape shape, DeviceMatrix<T> x, DeviceMatrix<T> weight, DevicePointer<T> bias,
        LinearActivation activation, DeviceMatrix<T> preActivation, DeviceMatrix<T> residual, DeviceMatrix<T> y, Workspace workspace)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape);
        if (activation != LinearActivation.None && !residual.IsNull) throw new ArgumentException("a residual cannot follow an activation", nameof(residual));
        GemmPlan plan = GemmPlan.Choose<T, Nt>(device, shape.Rows, shape.Outputs, shape.Inputs, x, weight, workspace,
            epilogueInstructions: activation == LinearActivation.Gelu ? GemmCost.GeluEpilogue : GemmCost.PlainEpilogue);
        switch (activation)
        {
            case LinearActivation.Gelu: plan.Run<T, Nt, GeluOutput<T>>(new(y, bias, preActivation)); break;
            case LinearActivation.Tanh: plan.Run<T, Nt, TanhOutput<T>>(new(y, bias)); break;
            default: plan.Run<T, Nt, LinearOutput<T>>(new(y, bias, residual)); break;
        }
    }

    /// <summary>
    /// dx = dy W, or dx += dy W with <paramref name="accumulate"/>; where <paramref name="preActivation"/> is present, dx = (dy W) * GELU'(preActivation):
    /// the gradient in front of the GELU whose output was this layer's input.
    /// </summary>
    /// <exception cref="ArgumentException">A size is not positive, or both accumulation and a pre-activation are asked for.</exception>
    public static void BackwardInput<T>(KernelDevice device, LinearShape shape, DeviceMatrix<T> dy, DeviceMatrix<T> weight,
        DeviceMatrix<T> preActivation, bool accumulate, DeviceMatrix<T> dx, Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape);
        if (accumulate && !preActivation.IsNull) throw new ArgumentException("a gradient through GELU is stored, not added", nameof(accumulate));
        GemmPlan plan = GemmPlan.Choose<T, Nn>(device, shape.Rows, shape.Inputs, shape.Outputs, dy, weight, workspace,
            epilogueInstructions: preActivation.IsNull ? GemmCost.PlainEpilogue : GemmCost.GeluEpilogue);
        if (preActivation.IsNull) plan.Run<T, Nn, GradientOutput<T>>(new(dx, accumulate));
        else plan.Run<T, Nn, GeluGradientOutput<T>>(new(dx, preActivation));
    }

    /// <summary>dW += dy^T x, in binary32.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void BackwardWeight<T>(KernelDevice device, LinearShape shape, DeviceMatrix<T> dy, DeviceMatrix<T> x, DeviceMatrix<FP32> dWeight,
        Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape);
        GemmPlan.Choose<T, Tn>(device, shape.Outputs, shape.Inputs, shape.Rows, dy, x, workspace).Run<T, Tn, WeightGradientOutput>(new(dWeight));
    }

    /// <summary>dbias += the column sums of dy [rows, columns], in binary32. Needs a workspace of at least <paramref name="columns"/> elements.</summary>
    /// <exception cref="ArgumentException">A size is not positive, or the workspace is too small.</exception>
    public static void BackwardBias<T>(KernelDevice device, int rows, int columns, DeviceMatrix<T> dy, DevicePointer<FP32> dBias, Workspace workspace)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(new LinearShape(rows, columns, columns));
        if (workspace.Length < columns) throw new ArgumentException($"a workspace of {columns} elements is needed, there are {workspace.Length}", nameof(workspace));
        int blocks = (columns + 255) / 256;
        long slabs = Math.Clamp(Math.Min((device.MultiProcessors * 4L + blocks - 1) / blocks, workspace.Length / columns), 1, (rows + 31) / 32);
        int slabRows = (int)((rows + slabs - 1) / slabs);
        slabs = (rows + slabRows - 1) / slabRows;
        device.Launch(ColumnSum.Slabs<T>, new GridSize(blocks, (int)slabs), new ColumnSumArguments<T>
        {
            Values = dy,
            Partial = workspace.Start,
            Rows = rows,
            Columns = columns,
            SlabRows = slabRows,
            Vectorized = dy.IsAligned ? 1 : 0,
        });
        SumSlabs(device, workspace.Start, (int)slabs, columns, columns, dBias);
    }

    /// <summary>dx = dy * f'(saved) over [rows, columns]: saved is the pre-activation for GELU, the output for tanh. dx may be dy.</summary>
    /// <exception cref="ArgumentException">A size is not positive, or there is no activation.</exception>
    public static void BackwardActivation<T>(KernelDevice device, int rows, int columns, LinearActivation activation, DeviceMatrix<T> dy,
        DeviceMatrix<T> saved, DeviceMatrix<T> dx) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(new LinearShape(rows, columns, columns));
        ActivationArguments<T> arguments = new()
        {
            Gradient = dy,
            Saved = saved,
            Output = dx,
            Rows = rows,
            Columns = columns,
            Vectorized = dy.IsAligned & saved.IsAligned & dx.IsAligned ? 1 : 0,
        };
        GridSize grid = new((rows + 3) / 4, (columns + 255) / 256);
        switch (activation)
        {
            case LinearActivation.Gelu: device.Launch(Activations.Backward<T, GeluDerivative>, grid, arguments); break;
            case LinearActivation.Tanh: device.Launch(Activations.Backward<T, TanhDerivative>, grid, arguments); break;
            default: throw new ArgumentException("there is no activation to go back through", nameof(activation));
        }
    }

    /// <summary>output += the column sums of partial [slabs, columns], whose rows are <paramref name="stride"/> elements apart, in order.</summary>
    internal static void SumSlabs(KernelDevice device, DevicePointer<FP32> partial, int slabs, int columns, long stride, DevicePointer<FP32> output) =>
        device.Launch(ColumnSum.Finish, new GridSize((columns + 127) / 128),
            new SlabSumArguments { Partial = partial, Output = output, Stride = stride, Slabs = slabs, Columns = columns });

    private static void Check(LinearShape shape)
    {
        if (shape.Rows <= 0 || shape.Inputs <= 0 || shape.Outputs <= 0) throw new ArgumentException($"sizes must be positive: {shape}", nameof(shape));
    }
}
