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
        AttentionPlan plan = AttentionPlan.Forward<T>(device, shape, !visible.IsNull);
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
            Tiles = plan.Tiles(shape.LongestQueries),
            Scale = shape.Scale,
            Factor = shape.Scale * DeviceMath.Log2E,
        };
        device.Launch(plan.Family == AttentionFamily.Warps ? ChooseForward<T>(shape.HeadDim, dropout.IsOn, !visible.IsNull) : ChooseWarpGroups<T>(shape.HeadDim, plan, dropout.IsOn),
            new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
    }

    /// <summary>
    /// Stores <paramref name="dq"/>, <paramref name="dk"/> and <paramref name="dv"/>, the gradients of q, k and v, from that of the output; the other arguments are
    /// those of the forward pass, with what it left in <paramref name="output"/> and <paramref name="logSumExp"/>. <paramref name="delta"/> [Heads, Queries] is
    /// room for rowsum(dO * O). Every row of a sequence is written (0 for keys without queries and queries without keys or visible ones); gradients must not
    /// overlap the inputs or each other. 14 Lq Lk HeadDim FLOP and 2 Lq Lk exponentials a head and sequence (10 and 1 in <see cref="AttentionFamily.ShortWarpGroups"/>, which leaves
    /// <paramref name="delta"/> alone): no atomics, so that a rerun is bit-equal.
    /// </summary>
    /// <exception cref="ArgumentException">A size is out of range, or a matrix is not aligned.</exception>
    public static void Backward<T>(KernelDevice device, AttentionShape shape, DeviceMatrix<T> q, DeviceMatrix<T> k, DeviceMatrix<T> v,
        DevicePointer<int> queryOffsets, DevicePointer<int> keyOffsets, DropoutMask dropout, VisibleKeys visible, DeviceMatrix<T> output,
        DevicePointer<FP32> logSumExp, DeviceMatrix<T> outputGradient, DeviceMatrix<T> dq, DeviceMatrix<T> dk, DeviceMatrix<T> dv, DevicePointer<FP32> delta)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape, q.IsAligned && k.IsAligned && v.IsAligned && output.IsAligned && outputGradient.IsAligned && dq.IsAligned && dk.IsAligned && dv.IsAligned);
        AttentionPlan plan = AttentionPlan.Backward<T>(device, shape, !visible.IsNull);
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
            Tiles = plan.Tiles(shape.LongestKeys),
            Scale = shape.Scale,
            Factor = shape.Scale * DeviceMath.Log2E,
        };
        if (plan.Family == AttentionFamily.ShortWarpGroups)
        {
            arguments.Tiles = 1;
            device.Launch(ChooseShortBackward<T>(shape.HeadDim, plan.Rows, dropout.IsOn), new GridSize(shape.Sequences, shape.Heads), arguments);
            return;
        }
        (Action<AttentionGradientArguments<T>> keys, Action<AttentionGradientArguments<T>> queries) = plan.Family == AttentionFamily.WarpGroups
            ? ChooseWarpGroupsBackward<T>(shape.HeadDim, dropout.IsOn) : ChooseBackward<T>(shape.HeadDim, dropout.IsOn, !visible.IsNull);
        // Warp groups' queries leave the deltas that their keys need.
        if (plan.Family == AttentionFamily.Warps) device.Launch(AttentionBackwardKernels.Delta<T>, new GridSize((shape.Queries + 3) / 4), arguments);
        int queryTiles = plan.Tiles(shape.LongestQueries);
        device.Launch(queries, new GridSize(checked(shape.Sequences * queryTiles), shape.Heads), arguments with { Tiles = queryTiles });
        device.Launch(keys, new GridSize(checked(shape.Sequences * arguments.Tiles), shape.Heads), arguments);
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

    private static Action<AttentionArguments<T>> ChooseWarpGroups<T>(int headDim, AttentionPlan plan, bool dropped) where T : unmanaged, IElement
    {
        return plan.Family == AttentionFamily.ShortWarpGroups ? dropped ? Short<Dropped>() : Short<Off>()
            : plan.Rows == Rows64.Count ? dropped ? Of<Rows64, Dropped>() : Of<Rows64, Off>()
            : dropped ? Of<Rows128, Dropped>() : Of<Rows128, Off>();

        Action<AttentionArguments<T>> Of<TRows, TDropout>() where TRows : struct, IAttentionRows where TDropout : struct, ISwitch => headDim <= 32
            ? WarpGroupAttentionKernels.Attend<T, Head32, TRows, Accumulator16, TDropout>
            : WarpGroupAttentionKernels.Attend<T, Head64, TRows, Accumulator32, TDropout>;

        Action<AttentionArguments<T>> Short<TDropout>() where TDropout : struct, ISwitch => headDim <= 32
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

    // Keys with heads of 64: rows in registers, which two groups a multiprocessor have enough of.
    private static (Action<AttentionGradientArguments<T>> Keys, Action<AttentionGradientArguments<T>> Queries) ChooseWarpGroupsBackward<T>(int headDim, bool dropped)
        where T : unmanaged, IElement
    {
        return dropped ? Tuned<Dropped>() : Tuned<Off>();

        (Action<AttentionGradientArguments<T>> Keys, Action<AttentionGradientArguments<T>> Queries) Tuned<TDropout>() where TDropout : struct, ISwitch => headDim <= 32
            ? (WarpGroupAttentionBackwardKernels.Keys<T, Head32, Accumulator16, FragmentAddress, TDropout>,
                WarpGroupAttentionBackwardKernels.Queries<T, Head32, Accumulator16, FragmentAddress, TDropout>)
            : (WarpGroupAttentionBackwardKernels.Keys<T, Head64, Accumulator32, Fragments16, TDropout>,
                WarpGroupAttentionBackwardKernels.Queries<T, Head64, Accumulator32, FragmentAddress, TDropout>);
    }

    // Heads of 64 with 128 rows or dropout: 128 registers a thread are enough for scores of 32 queries at a time.
    private static Action<AttentionGradientArguments<T>> ChooseShortBackward<T>(int headDim, int rows, bool dropped) where T : unmanaged, IElement
    {
        return (headDim <= 32, rows == Rows64.Count, dropped) switch
        {
            (true, true, false) => ShortAttentionBackwardKernels.Gradients<T, Head32, Rows64, Accumulator16, Accumulator32, Fragments16, Off>,
            (true, true, true) => ShortAttentionBackwardKernels.Gradients<T, Head32, Rows64, Accumulator16, Accumulator32, Fragments16, Dropped>,
            (true, false, false) => ShortAttentionBackwardKernels.Gradients<T, Head32, Rows128, Accumulator16, Accumulator32, Fragments16, Off>,
            (true, false, true) => ShortAttentionBackwardKernels.Gradients<T, Head32, Rows128, Accumulator16, Accumulator32, Fragments16, Dropped>,
            (false, true, false) => ShortAttentionBackwardKernels.Gradients<T, Head64, Rows64, Accumulator32, Accumulator32, Fragments16, Off>,
            (false, true, true) => ShortAttentionBackwardKernels.Gradients<T, Head64, Rows64, Accumulator32, Accumulator16, Fragments8, Dropped>,
            (false, false, false) => ShortAttentionBackwardKernels.Gradients<T, Head64, Rows128, Accumulator32, Accumulator16, Fragments8, Off>,
            (false, false, true) => ShortAttentionBackwardKernels.Gradients<T, Head64, Rows128, Accumulator32, Accumulator16, Fragments8, Dropped>,
        };
    }

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
