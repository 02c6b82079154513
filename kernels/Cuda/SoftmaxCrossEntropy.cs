using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Mean cross-entropy over the rows of a small matrix of logits, as the reranker's groups are; a warp a row, binary32 inside. Everything is enqueued;
/// nothing waits.
/// </summary>
public static class SoftmaxCrossEntropy
{
    /// <summary>loss (one binary32) = the mean over rows of logSumExp(row) - row[target]; rowLoss [rows].</summary>
    /// <param name="device">Where to run.</param>
    /// <param name="logits">[rows, columns].</param>
    /// <param name="rows">Positive.</param>
    /// <param name="columns">Positive.</param>
    /// <param name="targets">[rows]: each row's right column, which nothing on the device checks, or absent for column 0.</param>
    /// <param name="rowLoss">[rows].</param>
    /// <param name="loss">One binary32.</param>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, DeviceMatrix<T> logits, int rows, int columns, DevicePointer<int> targets, DevicePointer<FP32> rowLoss,
        DevicePointer<FP32> loss) where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Hard(logits, rows, columns, targets));
        plan.Forward(ScoreRowsKernels.HardForward, rowLoss, loss);
    }

    /// <summary>dlogits (stored or added) = (softmax - one at the target) * lossGradient / rows; must not overlap the logits.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Backward<T>(KernelDevice device, DeviceMatrix<T> logits, int rows, int columns, DevicePointer<int> targets, DeviceScalar lossGradient,
        DeviceMatrix<T> dlogits, bool accumulate) where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Hard(logits, rows, columns, targets));
        plan.Backward(ScoreRowsKernels.HardBackward, lossGradient, dlogits, accumulate);
    }

    /// <summary>loss = the mean over rows of -sum over j of target[j] * log softmax(row)[j]; targets [rows, columns] are probabilities.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void ForwardSoft<T>(KernelDevice device, DeviceMatrix<T> logits, int rows, int columns, DeviceMatrix<FP32> targets, DevicePointer<FP32> rowLoss,
        DevicePointer<FP32> loss) where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Soft(logits, rows, columns, targets));
        plan.Forward(ScoreRowsKernels.SoftForward, rowLoss, loss);
    }

    /// <summary>dlogits (stored or added) = (softmax * sum of targets - target) * lossGradient / rows; must not overlap the logits.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void BackwardSoft<T>(KernelDevice device, DeviceMatrix<T> logits, int rows, int columns, DeviceMatrix<FP32> targets, DeviceScalar lossGradient,
        DeviceMatrix<T> dlogits, bool accumulate) where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Soft(logits, rows, columns, targets));
        plan.Backward(ScoreRowsKernels.SoftBackward, lossGradient, dlogits, accumulate);
    }

    private static ScoreRowsArguments<T> Hard<T>(DeviceMatrix<T> logits, int rows, int columns, DevicePointer<int> targets) where T : unmanaged, IElement =>
        new() { Scores = logits, Rows = rows, Columns = columns, Group = columns, Labels = targets, Scale = 1 };

    private static ScoreRowsArguments<T> Soft<T>(DeviceMatrix<T> logits, int rows, int columns, DeviceMatrix<FP32> targets) where T : unmanaged, IElement =>
        new() { Scores = logits, Rows = rows, Columns = columns, Group = columns, Teacher = targets, Scale = 1 };
}

/// <summary>Launches a loss over rows of scores: a warp a row, then the mean.</summary>
internal readonly struct ScoreRowsPlan<T> where T : unmanaged, IElement
{
    private readonly KernelDevice _device;
    private readonly ScoreRowsArguments<T> _arguments;

    /// <summary>Checks the sizes.</summary>
    public ScoreRowsPlan(KernelDevice device, ScoreRowsArguments<T> arguments)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (arguments.Rows <= 0 || arguments.Columns <= 0)
            throw new ArgumentException($"sizes must be positive: {arguments.Rows} rows of {arguments.Columns}", nameof(arguments));
        (_device, _arguments) = (device, arguments);
    }

    /// <summary>Enqueues the rows' losses and their mean.</summary>
    public void Forward(Action<ScoreRowsArguments<T>> kernel, DevicePointer<FP32> rowLoss, DevicePointer<FP32> loss)
    {
        Launch(kernel, _arguments with { RowLoss = rowLoss });
        MeanLossKernels.Launch(_device, rowLoss, default, _arguments.Rows, loss);
    }

    /// <summary>Enqueues the gradient of the mean.</summary>
    public void Backward(Action<ScoreRowsArguments<T>> kernel, DeviceScalar lossGradient, DeviceMatrix<T> gradients, bool accumulate) =>
        Launch(kernel, _arguments with { RowGradient = lossGradient * (1f / _arguments.Rows), Gradients = gradients, Accumulate = accumulate ? 1 : 0 });

    private void Launch(Action<ScoreRowsArguments<T>> kernel, ScoreRowsArguments<T> arguments) =>
        _device.Launch(kernel, new GridSize((arguments.Rows + 3) / 4), arguments);
}
