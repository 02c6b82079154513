using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes of an attention over packed sequences.</summary>
/// <param name="Sequences">Sequences of the batch.</param>
/// <param name="Queries">Query rows of the batch: the last query offset.</param>
/// <param name="LongestQueries">The most queries of one sequence.</param>
/// <param name="LongestKeys">The most keys of one sequence.</param>
/// <param name="Heads">Heads.</param>
/// <param name="HeadDim">Columns of a head: a multiple of 8 up to 128. 32, 64 and 128 run without padding.</param>
/// <param name="Scale">What scores are multiplied with; positive, usually 1 / sqrt(HeadDim).</param>
public readonly record struct AttentionShape(int Sequences, int Queries, int LongestQueries, int LongestKeys, int Heads, int HeadDim, float Scale);

/// <summary>
/// Multi-head attention over packed sequences (Vaswani et al., arXiv:1706.03762, equation 1) with an online softmax, no [L, L] matrix. Sequence b's queries are the rows queryOffsets[b] to
/// queryOffsets[b + 1] - 1 and look at the keys keyOffsets[b] to keyOffsets[b + 1] - 1; padding does not exist. Matrices are [rows, Heads * HeadDim], any of them columns of a wider
/// one; their rows must start at multiples of 16 bytes. bf16 and fp16 run on the tensor cores with binary32 sums and statistics, binary32 in fused
/// multiply-adds. Everything is enqueued; nothing waits.
/// </summary>
public static class Attention
{
    private const float Log2E = 1.44269504f;

    /// <summary>
    /// output = dropout(softmax over the visible keys of q k^T * scale) v. Queries without any key or without a visible one get 0.
    /// <paramref name="logSumExp"/> [Heads, Queries], or absent, receives the natural logarithm of each row's sum of exponentials of scaled scores for the
    /// backward pass: -infinity without keys, +infinity where none is visible. The dropout mask's rows are query rows of the batch, its columns places of keys in their
    /// sequence. <paramref name="output"/> must not overlap the inputs. 4 Lq Lk HeadDim FLOP and Lq Lk exponentials a head and sequence.
    /// </summary>
    /// <exception cref="ArgumentException">A size is out of range, or a matrix is not aligned.</exception>
    public static void Forward<T>(KernelDevice device, AttentionShape shape, DeviceMatrix<T> q, DeviceMatrix<T> k, DeviceMatrix<T> v,
        DevicePointer<int> queryOffsets, DevicePointer<int> keyOffsets, DropoutMask dropout, VisibleKeys visible, DeviceMatrix<T> output,
        DevicePointer<FP32> logSumExp) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape, q.IsAligned && k.IsAligned && v.IsAligned && output.IsAligned);
        AttentionArguments<T> arguments = new()
        {
            Q = q,
            K = k,
            V = v,
            Output = output,
            QueryOffsets = queryOffsets,
            KeyOffsets = keyOffsets,
            LogSumExp = logSumExp,
            Dropout = dropout,
            Visible = visible,
            TotalQueries = shape.Queries,
            HeadDim = shape.HeadDim,
            Tiles = Tiles(shape.LongestQueries),
            Scale = shape.Scale,
            Factor = shape.Scale * Log2E,
        };
        Action<AttentionArguments<T>> kernel = !visible.IsNull ? Choose<T, Dropped, Masked>(shape.HeadDim)
            : dropout.IsOn ? Choose<T, Dropped, Off>(shape.HeadDim) : Choose<T, Off, Off>(shape.HeadDim);
        device.Launch(kernel, new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
    }

    private static Action<AttentionArguments<T>> Choose<T, TDropout, TVisible>(int headDim)
        where T : unmanaged, IElement where TDropout : struct, ISwitch where TVisible : struct, ISwitch
    {
        bool exact = T.SizeShift == 2;
        return headDim <= 32 ? exact ? AttentionForwardKernels.Attend<T, Head32, Accumulator16, FragmentAddress, TDropout, TVisible>
                : AttentionForwardKernels.Attend<T, Head32, Accumulator16, Fragments8, TDropout, TVisible>
            : headDim <= 64 ? exact ? AttentionForwardKernels.Attend<T, Head64, Accumulator32, FragmentAddress, TDropout, TVisible>
                : AttentionForwardKernels.Attend<T, Head64, Accumulator32, Fragments16, TDropout, TVisible>
            : exact ? AttentionForwardKernels.Attend<T, Head128, Accumulator64, FragmentAddress, TDropout, TVisible>
                : AttentionForwardKernels.Attend<T, Head128, Accumulator64, Fragments32, TDropout, TVisible>;
    }

    private static int Tiles(int rows) => (rows + AttentionTile.Rows - 1) / AttentionTile.Rows;

    private static void Check(AttentionShape shape, bool aligned)
    {
        if (shape.Sequences <= 0 || shape.Queries <= 0 || shape.LongestQueries <= 0 || shape.LongestKeys < 0 || shape.Heads <= 0 || shape.Heads > ushort.MaxValue)
            throw new ArgumentException($"sizes must be positive, and there can be {ushort.MaxValue} heads: {shape}", nameof(shape));
        if (shape.HeadDim <= 0 || shape.HeadDim % 8 != 0 || shape.HeadDim > 128)
            throw new ArgumentException($"a head must have a multiple of 8 columns, at most 128: {shape}", nameof(shape));
        if (!(shape.Scale > 0) || !float.IsFinite(shape.Scale)) throw new ArgumentException($"the scale must be positive and finite: {shape}", nameof(shape));
        if (!aligned) throw new ArgumentException("rows of all matrices must start at multiples of 16 bytes", nameof(aligned));
    }
}
