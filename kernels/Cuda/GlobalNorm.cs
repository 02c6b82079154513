using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The Euclidean norm of all gradients, and what an optimizer step needs of it, without the host's waiting: the results are three binary32 on the
/// device, see <see cref="NormIndex"/>. Sums run in a fixed order.
/// </summary>
public static class GlobalNorm
{
    /// <summary>Element of the result: the norm of the unscaled gradients.</summary>
    public const int NormIndex = 0;

    /// <summary>Element of the result: what each stored gradient must be multiplied with: clipping over loss scale, or 0 when a gradient is not finite.</summary>
    public const int FactorIndex = 1;

    /// <summary>Element of the result: 1 when a gradient is infinite or not a number, and the step must not be taken, else 0.</summary>
    public const int SkipIndex = 2;

    /// <summary>Elements of workspace that the first pass fills.</summary>
    public const int WorkspaceLength = 1024;

    /// <summary>
    /// Enqueues norm = |gradients| / lossScale and factor = min(1, maxNorm / (norm + 1e-6)) / lossScale, PyTorch's clip_grad_norm_.
    /// <paramref name="lossScale"/> points at one binary32 on the device, or is null for 1; a <paramref name="maxNorm"/> of 0 does not clip.
    /// </summary>
    /// <exception cref="ArgumentException">The workspace is smaller than <see cref="WorkspaceLength"/>, or the gradients are not 16-byte aligned.</exception>
    public static void Compute(KernelDevice device, DevicePointer<FP32> gradients, long count, DevicePointer<FP32> lossScale, float maxNorm,
        DevicePointer<FP32> result, Workspace workspace)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (workspace.Length < WorkspaceLength || (gradients.Address & 15) != 0)
            throw new ArgumentException($"a workspace of {WorkspaceLength} elements and aligned gradients are needed", nameof(workspace));
        int blocks = (int)Math.Clamp((count + 2047) / 2048, 1, WorkspaceLength);
        GlobalNormArguments arguments = new()
        {
            Values = gradients,
            Partial = workspace.Start,
            Result = result,
            LossScale = lossScale,
            Count = count,
            Blocks = blocks,
            MaxNorm = maxNorm,
        };
        device.Launch(GlobalNormKernels.Squares, new GridSize(blocks), arguments);
        device.Launch(GlobalNormKernels.Finish, new GridSize(1), arguments);
    }
}

/// <summary>Arguments of both passes.</summary>
internal struct GlobalNormArguments
{
    /// <summary>Gradients, sums of the blocks, the result, and the loss scale or null.</summary>
    public DevicePointer<FP32> Values, Partial, Result, LossScale;

    /// <summary>Gradients.</summary>
    public long Count;

    /// <summary>Blocks of the first pass.</summary>
    public int Blocks;

    /// <summary>The longest norm, or 0.</summary>
    public float MaxNorm;
}

/// <summary>Two passes: sums of squares by block, then one block over those.</summary>
internal static class GlobalNormKernels
{
    /// <summary>Dynamic shared memory: the scratch of a block reduction.</summary>
    public const int SharedBytes = 32 * 4 + SharedBlock.AlignmentSlack;

    [CudaKernel("GlobalNorm", KernelDirection.Update, 256, Elements = ElementTypes.None, SharedBytes = SharedBytes)]
    public static void Squares(GlobalNormArguments arguments)
    {
        int shared = SharedBlock.Open();
        float sum = 0;
        long step = (long)arguments.Blocks * 2048;
        for (long index = ((long)Grid.IdxX * 256 + Group.IdxX) * 8; index < arguments.Count; index += step)
        {
            if (index + 8 <= arguments.Count)
            {
                Float8 values = arguments.Values.Load8(index);
                sum += values.Dot(values);
            }
            else
            {
                for (long i = index; i < arguments.Count; i++)
                {
                    float value = arguments.Values.Load(i);
                    sum += value * value;
                }
            }
        }
        sum = BlockReduce.Sum(sum, shared);
        if (Group.IdxX == 0) arguments.Partial.Store(Grid.IdxX, sum);
    }

    [CudaKernel("GlobalNorm", KernelDirection.Update, 256, Elements = ElementTypes.None, SharedBytes = SharedBytes)]
    public static void Finish(GlobalNormArguments arguments)
    {
        int shared = SharedBlock.Open();
        float sum = 0;
        for (int i = Group.IdxX; i < arguments.Blocks; i += 256) sum += arguments.Partial.Load(i);
        sum = BlockReduce.Sum(sum, shared);
        if (Group.IdxX != 0) return;
        float unscale = arguments.LossScale.IsNull ? 1 : DeviceMath.Reciprocal(arguments.LossScale.Load(0));
        float norm = DeviceMath.Sqrt(sum) * unscale;
        // An infinity or a NaN minus itself is a NaN, which is not zero.
        bool finite = sum - sum == 0;
        float clip = arguments.MaxNorm > 0 ? Math.Min(1, arguments.MaxNorm * DeviceMath.Reciprocal(norm + 1e-6f)) : 1;
        arguments.Result.Store(GlobalNorm.NormIndex, norm);
        arguments.Result.Store(GlobalNorm.FactorIndex, finite ? clip * unscale : 0);
        // With integers here ILGPU would store the bits of the integer 1.
        arguments.Result.Store(GlobalNorm.SkipIndex, finite ? 0f : 1f);
    }
}
