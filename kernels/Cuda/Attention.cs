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
            Scale = shape.Scale,
            Factor = shape.Scale * DeviceMath.Log2E,
        };
        bool warpGroups = device.HasWarpGroups && T.SizeShift == 1 && shape.HeadDim <= 64 && visible.IsNull;
        int rows = warpGroups && shape.LongestQueries > Rows64.Count ? Rows128.Count : AttentionTile.Rows;
        arguments.Tiles = Tiles(shape.LongestQueries, rows);
        device.Launch(warpGroups ? ChooseWarpGroups<T>(shape, rows, dropout.IsOn) : ChooseForward<T>(shape.HeadDim, dropout.IsOn, !visible.IsNull),
            new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
    }

    /// <summary>
    /// Stores <paramref name="dq"/>, <paramref name="dk"/> and <paramref name="dv"/>, the gradients of q, k and v, from that of the output; the other arguments are
    /// those of the forward pass, with what it left in <paramref name="output"/> and <paramref name="logSumExp"/>. <paramref name="delta"/> [Heads, Queries] is
    /// room for rowsum(dO * O). Every row of a sequence is written (0 for keys without queries and queries without keys or visible ones); gradients must not
    /// overlap the inputs or each other. 14 Lq Lk HeadDim FLOP and 2 Lq Lk exponentials a head and sequence: no atomics, so that a rerun is bit-equal.
    /// </summary>
    /// <exception cref="ArgumentException">A size is out of range, or a matrix is not aligned.</exception>
    public static void Backward<T>(KernelDevice device, AttentionShape shape, DeviceMatrix<T> q, DeviceMatrix<T> k, DeviceMatrix<T> v,
        DevicePointer<int> queryOffsets, DevicePointer<int> keyOffsets, DropoutMask dropout, VisibleKeys visible, DeviceMatrix<T> output,
        DevicePointer<FP32> logSumExp, DeviceMatrix<T> outputGradient, DeviceMatrix<T> dq, DeviceMatrix<T> dk, DeviceMatrix<T> dv, DevicePointer<FP32> delta)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape, q.IsAligned && k.IsAligned && v.IsAligned && output.IsAligned && outputGradient.IsAligned && dq.IsAligned && dk.IsAligned && dv.IsAligned);
        AttentionGradientArguments<T> arguments = new()
        {
            Q = q,
            K = k,
            V = v,
            Output = output,
            OutputGradient = outputGradient,
            Dq = dq,
            Dk = dk,
            Dv = dv,
            QueryOffsets = queryOffsets,
            KeyOffsets = keyOffsets,
            LogSumExp = logSumExp,
            Delta = delta,
            Dropout = dropout,
            Visible = visible,
            TotalQueries = shape.Queries,
            Heads = shape.Heads,
            HeadDim = shape.HeadDim,
            Tiles = Tiles(shape.LongestKeys),
            Scale = shape.Scale,
            Factor = shape.Scale * DeviceMath.Log2E,
        };
        device.Launch(AttentionBackwardKernels.Delta<T>, new GridSize((shape.Queries + 3) / 4), arguments);
        (Action<AttentionGradientArguments<T>> keys, Action<AttentionGradientArguments<T>> queries) =
            ChooseBackward<T>(shape.HeadDim, dropout.IsOn, !visible.IsNull);
        device.Launch(keys, new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
        arguments.Tiles = Tiles(shape.LongestQueries);
        device.Launch(queries, new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
    }

    // The tuned kernels, half-precision heads of up to 64 columns, know at compile time what they need not do. All others ask their arguments.
    private static Action<AttentionArguments<T>> ChooseForward<T>(int headDim, bool dropped, bool masked) where T : unmanaged, IElement
    {
        if (T.SizeShift == 2)
            return headDim <= 32 ? AttentionForwardKernels.Attend<T, Head32, Accumulator16, Accumulator16, FragmentAddress, Dropped, Masked>
                : headDim <= 64 ? AttentionForwardKernels.Attend<T, Head64, Accumulator32, Accumulator16, FragmentAddress, Dropped, Masked>
                : AttentionForwardKernels.Attend<T, Head128, Accumulator64, Accumulator16, FragmentAddress, Dropped, Masked>;
        if (headDim > 64) return AttentionForwardKernels.Attend<T, Head128, Accumulator64, Accumulator32, Fragments32, Dropped, Masked>;
        return masked ? Tuned<Dropped, Masked>() : dropped ? Tuned<Dropped, Off>() : Tuned<Off, Off>();

        Action<AttentionArguments<T>> Tuned<TDropout, TVisible>() where TDropout : struct, ISwitch where TVisible : struct, ISwitch => headDim <= 32
            ? AttentionForwardKernels.Attend<T, Head32, Accumulator16, Accumulator32, Fragments8, TDropout, TVisible>
            : AttentionForwardKernels.Attend<T, Head64, Accumulator32, Accumulator32, Fragments16, TDropout, TVisible>;
    }

    private static Action<AttentionArguments<T>> ChooseWarpGroups<T>(AttentionShape shape, int rows, bool dropped) where T : unmanaged, IElement
    {
        return shape.LongestKeys <= WarpGroupAttentionKernels.Columns && rows == Rows64.Count ? dropped ? Short<Dropped>() : Short<Off>()
            : rows == Rows64.Count ? dropped ? Of<Rows64, Dropped>() : Of<Rows64, Off>()
            : dropped ? Of<Rows128, Dropped>() : Of<Rows128, Off>();

        Action<AttentionArguments<T>> Of<TRows, TDropout>() where TRows : struct, IAttentionRows where TDropout : struct, ISwitch => shape.HeadDim <= 32
            ? WarpGroupAttentionKernels.Attend<T, Head32, TRows, Accumulator16, TDropout>
            : WarpGroupAttentionKernels.Attend<T, Head64, TRows, Accumulator32, TDropout>;

        Action<AttentionArguments<T>> Short<TDropout>() where TDropout : struct, ISwitch => shape.HeadDim <= 32
            ? WarpGroupAttentionKernels.AttendShort<T, Head32, Accumulator16, TDropout>
            : WarpGroupAttentionKernels.AttendShort<T, Head64, Accumulator32, TDropout>;
    }

    private static (Action<AttentionGradientArguments<T>> Keys, Action<AttentionGradientArguments<T>> Queries) ChooseBackward<T>(int headDim, bool dropped, bool masked)
        where T : unmanaged, IElement
    {
        if (T.SizeShift == 2)
            return headDim <= 32 ? Pair<T, Head32, Accumulator16, Accumulator16, FragmentAddress, Dropped, Masked>()
                : headDim <= 64 ? Pair<T, Head64, Accumulator32, Accumulator16, FragmentAddress, Dropped, Masked>()
                : Pair<T, Head128, Accumulator64, Accumulator16, FragmentAddress, Dropped, Masked>();
        if (headDim > 64) return Pair<T, Head128, Accumulator64, Accumulator16, Fragments32, Dropped, Masked>();
        return masked ? Tuned<Dropped, Masked>() : dropped ? Tuned<Dropped, Off>() : Tuned<Off, Off>();

        (Action<AttentionGradientArguments<T>> Keys, Action<AttentionGradientArguments<T>> Queries) Tuned<TDropout, TVisible>()
            where TDropout : struct, ISwitch where TVisible : struct, ISwitch => headDim <= 32
            ? Pair<T, Head32, Accumulator16, Accumulator32, Fragments8, TDropout, TVisible>()
            : Pair<T, Head64, Accumulator32, Accumulator32, Fragments16, TDropout, TVisible>();
    }

    private static (Action<AttentionGradientArguments<T>> Keys, Action<AttentionGradientArguments<T>> Queries) Pair<T, THead, TSum, TScores, TFragments, TDropout, TVisible>()
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator
        where TFragments : unmanaged, IAccumulator where TDropout : struct, ISwitch where TVisible : struct, ISwitch =>
        (AttentionBackwardKernels.Keys<T, THead, TSum, TScores, TFragments, TDropout, TVisible>,
            AttentionBackwardKernels.Queries<T, THead, TSum, TScores, TFragments, TDropout, TVisible>);

    private static int Tiles(int rows, int height = AttentionTile.Rows) => (rows + height - 1) / height;

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
