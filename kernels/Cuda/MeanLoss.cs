using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the mean of the rows' losses.</summary>
internal struct MeanLossArguments
{
    /// <summary>[rows], and the mean.</summary>
    public DevicePointer<FP32> RowLoss, Loss;

    /// <summary>Each row's target, negative where the row does not count; null when all do.</summary>
    public DevicePointer<int> Targets;

    /// <summary>Their number, and four bytes that keep the parameter block without holes.</summary>
    public int Rows, Unused;
}

/// <summary>The last step of every loss: one block adds up the rows in an order that depends on their number alone.</summary>
internal static class MeanLossKernels
{
    private const int Threads = 256;

    /// <summary>Enqueues loss = the mean of rowLoss over the rows that count; 0 without any.</summary>
    public static void Launch(KernelDevice device, DevicePointer<FP32> rowLoss, DevicePointer<int> targets, int rows, DevicePointer<FP32> loss) =>
        device.Launch(Mean, new GridSize(1), new MeanLossArguments { RowLoss = rowLoss, Loss = loss, Targets = targets, Rows = rows });

    [CudaKernel("SoftmaxCrossEntropy", KernelDirection.Forward, Threads, Elements = ElementTypes.None, SharedBytes = 128 + SharedBlock.AlignmentSlack)]
    public static void Mean(MeanLossArguments arguments)
    {
        int scratch = SharedBlock.Open();
        float sum = 0, count = 0;
        for (int row = Group.IdxX; row < arguments.Rows; row += Threads)
        {
            sum += arguments.RowLoss.Load(row);
            if (arguments.Targets.IsNull) count += 1f;
            else if (arguments.Targets.Load(row) >= 0) count += 1f;
        }
        sum = BlockReduce.Sum(sum, scratch);
        count = BlockReduce.Sum(count, scratch);
        if (Group.IdxX == 0) arguments.Loss.Store(0, sum * DeviceMath.Reciprocal(DeviceMath.Max(count, 1)));
    }
}
