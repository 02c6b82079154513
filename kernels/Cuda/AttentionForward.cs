using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the forward kernels.</summary>
internal struct AttentionArguments<T> where T : unmanaged, IElement
{
    /// <summary>[queries or keys, heads * headDim].</summary>
    public DeviceMatrix<T> Q, K, V, Output;

    /// <summary>[sequences + 1].</summary>
    public DevicePointer<int> QueryOffsets, KeyOffsets;

    /// <summary>[heads, queries], or absent.</summary>
    public DevicePointer<FP32> LogSumExp;

    /// <summary>What is dropped of the probabilities.</summary>
    public DropoutMask Dropout;

    /// <summary>Which pairs are visible.</summary>
    public VisibleKeys Visible;

    /// <summary>Sizes: of all queries, of a head, and tiles of the longest sequence.</summary>
    public int TotalQueries, HeadDim, Tiles;

    /// <summary>The scale, and the scale times log2(e).</summary>
    public float Scale, Factor;

    /// <summary>
    /// The factor that makes probabilities of a query's exponentials, from its largest score and their sum; leaves the logarithm of that sum. A row that sees nothing has no
    /// probabilities.
    /// </summary>
    public readonly float Finish<TVisible>(AttentionPlace place, int row, float max, float sum, int lane) where TVisible : struct, ISwitch
    {
        float log = max * Scale + DeviceMath.Log(sum), factor = sum > 0 ? DeviceMath.Reciprocal(sum) : 0f;
        if (TVisible.IsOn)
        {
            if (max <= VisibleKeys.Hidden)
            {
                log = place.Keys > 0 ? float.PositiveInfinity : float.NegativeInfinity;
                factor = 0f;
            }
        }
        if ((lane & 3) == 0 & row < place.Queries & !LogSumExp.IsNull) LogSumExp.Store((long)place.Head * TotalQueries + place.FirstQuery + row, log);
        return factor;
    }
}

/// <summary>
/// softmax(q k^T * scale) v with an online softmax (Dao et al., arXiv:2205.14135; the order of loops of Dao, arXiv:2307.08691): a block owns 64 queries of one head of one sequence, a warp 16 of
/// them, in registers. 64 keys at a time come by cp.async, then their values while the scores are being computed, then the next keys while the values are
/// being added up. Scores never leave their registers: as probabilities they are the first operand of the second product. Grid: (sequences * tiles, heads).
/// </summary>
internal static class AttentionForwardKernels
{
    /// <summary>Dynamic shared memory of heads of 32, 64 and 128 columns: queries, keys and values.</summary>
    public const int Shared32 = 3 * 64 * AttentionTile.Row32 + SharedBlock.AlignmentSlack, Shared64 = 3 * 64 * AttentionTile.Row64 + SharedBlock.AlignmentSlack,
        Shared128 = 3 * 64 * AttentionTile.Row128 + SharedBlock.AlignmentSlack;

    /// <summary>The same in binary32, with 32 keys at a time.</summary>
    public const int Exact32 = (64 + 2 * 32) * 2 * AttentionTile.Row32 + SharedBlock.AlignmentSlack,
        Exact64 = (64 + 2 * 32) * 2 * AttentionTile.Row64 + SharedBlock.AlignmentSlack, Exact128 = (64 + 2 * 32) * 2 * AttentionTile.Row128 + SharedBlock.AlignmentSlack;

    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 4, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 4, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 4, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator32), typeof(Fragments32), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared128, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact32, MinBlocks = 4)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact64, MinBlocks = 3)]
    [CudaKernel("Attention", KernelDirection.Forward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact128, MinBlocks = 2)]
    public static void Attend<T, THead, TSum, TScores, TFragments, TDropout, TVisible>(AttentionArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator
        where TFragments : unmanaged, IAccumulator where TDropout : struct, ISwitch where TVisible : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles);
        if (place.Row0 >= place.Queries) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), columns = 2 * TScores.Length;
        int shared = SharedBlock.Open(), keyTile = shared + AttentionTile.Rows * rowBytes, valueTile = keyTile + columns * rowBytes;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, row = place.Row0 + warpRow + (lane >> 2), headDim = arguments.HeadDim;
        HeadRows keys = HeadRows.Open<T, THead>(arguments.K, place.FirstKey, place.Head, headDim);
        HeadRows values = HeadRows.Open<T, THead>(arguments.V, place.FirstKey, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(shared, place.Row0, place.Queries, AttentionTile.Rows);
        keys.Fetch<T, THead>(keyTile, 0, place.Keys, columns);
        AsyncCopy.Commit();
        int laneKeys = keyTile + HeadTile.LaneOfColumns<T, THead>(lane), laneValues = valueTile + HeadTile.LaneOfDepth<T, THead>(lane);
        AsyncCopy.Wait(0);
        Group.Barrier();
        TFragments q = HeadMma.LoadRows<TFragments, T, THead>(shared + warpRow * rowBytes + HeadTile.LaneOfRows<T, THead>(lane));

        bool busy = place.Row0 + warpRow < place.Queries;
        RowPair max = RowPair.All(float.NegativeInfinity), sum = RowPair.All(0);
        TSum output = Accumulators.Zero<TSum>();
        for (int key0 = 0; key0 < place.Keys; key0 += columns)
        {
            values.Fetch<T, THead>(valueTile, key0, place.Keys, columns);
            AsyncCopy.Commit();
            TScores scores = Accumulators.Zero<TScores>();
            if (busy)
            {
                scores = HeadMma.Multiply<TScores, TFragments, T, THead>(scores, q, laneKeys);
                if (TVisible.IsOn)
                    if (!arguments.Visible.IsNull)
                        scores = ScoreRows.Select(scores, arguments.Visible.OfQueries(place, row, key0, columns, lane), VisibleKeys.Hidden);
                if (key0 + columns > place.Keys) scores = ScoreRows.Select(scores, ScoreBits.Columns(place.Keys - key0, lane), float.NegativeInfinity);
                RowPair top = ScoreRows.Max(scores, max), shrink = ((max - top) * arguments.Factor).Exp2();
                scores = ScoreRows.Exponentials(scores, arguments.Factor, top * -arguments.Factor);
                sum = sum * shrink + ScoreRows.Sum(scores);
                output = ScoreRows.Scale(output, shrink);
                max = top;
                if (TDropout.IsOn)
                    if (!TVisible.IsOn | arguments.Dropout.IsOn)
                        scores = ScoreRows.Keep(scores, DroppedPairs.OfQueries(arguments.Dropout, place, row, key0, columns, lane), arguments.Dropout.Scale);
            }
            AsyncCopy.Wait(0);
            Group.Barrier();
            keys.Fetch<T, THead>(keyTile, key0 + columns, place.Keys, columns);
            AsyncCopy.Commit();
            if (busy) output = HeadMma.Accumulate<TSum, TScores, T, THead>(output, scores, laneValues);
            AsyncCopy.Wait(0);
            Group.Barrier();
        }
        sum = new() { Upper = WarpShuffle.QuadSum(sum.Upper), Lower = WarpShuffle.QuadSum(sum.Lower) };
        float upper = arguments.Finish<TVisible>(place, row, max.Upper, sum.Upper, lane), lower = arguments.Finish<TVisible>(place, row + 8, max.Lower, sum.Lower, lane);
        output = ScoreRows.Scale(output, new() { Upper = upper, Lower = lower });
        // Without keys no barrier lies between other warps' reads of the queries and the sums that take their place.
        if (place.Keys <= 0) Group.Barrier();
        HeadMma.Stage(output, shared + ((warpRow + (lane >> 2)) * (THead.Columns + 8) + ((lane & 3) << 1)) * 4, THead.Columns + 8);
        Group.Barrier();
        HeadRows.Store<T, THead>(shared, arguments.Output, place.FirstQuery, place.Row0, place.Queries, place.Head, headDim);
    }
}
