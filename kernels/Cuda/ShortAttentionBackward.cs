using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;
using static BgeMetal.Kernels.Runtime.CudaKernelAttribute;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Attention's gradients where no sequence has more than 64 rows, or 128: one block a sequence and head reads q, k, v, the output and its gradient once and writes dQ, dK and dV once, where
/// the kernels for every length (<see cref="AttentionBackwardKernels"/>, whose equations these are) read eight matrices twice or more; and scores are computed once, not twice: five
/// products instead of seven. For half-precision heads of up to 64 columns without a mask, by warp groups, without atomics. A group owns 64 keys and goes over the queries; probabilities
/// are in registers the first operand of dV; gradients of scores lie transposed in shared memory, [keys][queries], where they are the first operand of dK as they are and of dQ
/// transposed. A group then computes dK of its keys and dQ of as many queries. Grid: (sequences, heads).
/// </summary>
internal static class ShortAttentionBackwardKernels
{
    /// <summary>
    /// Dynamic shared memory of 64 and 128 rows, heads of 32 and 64 columns: keys, values, queries and output gradients; the gradients of scores, in whose place the output waits until they
    /// come; logarithms and deltas.
    /// </summary>
    public const int Shared32 = 4 * 64 * AttentionTile.Row32 + 64 * 64 * 2 + 8 * 64, Shared64 = 4 * 64 * AttentionTile.Row64 + 64 * 64 * 2 + 8 * 64,
        Shared32Wide = 4 * 128 * AttentionTile.Row32 + 128 * 128 * 2 + 8 * 128, Shared64Wide = 4 * 128 * AttentionTile.Row64 + 128 * 128 * 2 + 8 * 128;

    // Bytes of 64 gradients of scores: a tile of 64 queries is so wide.
    private const int WeightBytes = 128;

    [CudaKernel("Attention", KernelDirection.Backward, Rows64.Threads, typeof(Head32), typeof(Rows64), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments16), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows64.Threads, typeof(Head64), typeof(Rows64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows128.Threads, typeof(Head32), typeof(Rows128), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments16), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32Wide, MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows128.Threads, typeof(Head64), typeof(Rows128), typeof(Accumulator32), typeof(Accumulator16), typeof(Fragments8), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64Wide, MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows64.Threads, typeof(Head32), typeof(Rows64), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows64.Threads, typeof(Head64), typeof(Rows64), typeof(Accumulator32), typeof(Accumulator16), typeof(Fragments8), typeof(Dropped),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows128.Threads, typeof(Head32), typeof(Rows128), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped),
        Elements = ElementTypes.Low, SharedBytes = Shared32Wide, MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Rows128.Threads, typeof(Head64), typeof(Rows128), typeof(Accumulator32), typeof(Accumulator16), typeof(Fragments8), typeof(Dropped),
        Elements = ElementTypes.Low, SharedBytes = Shared64Wide, MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    public static void Gradients<T, THead, TRows, TSum, TScores, TFragments, TDropout>(AttentionGradientArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TRows : struct, IAttentionRows where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator
        where TFragments : unmanaged, IAccumulator where TDropout : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles, TRows.Count);
        int rowBytes = HeadTile.RowBytes<T, THead>(), tile = TRows.Count * rowBytes, columns = 2 * TScores.Length, headDim = arguments.HeadDim;
        int keys = SharedBlock.OpenAligned(), values = keys + tile, queries = values + tile, outputGradients = queries + tile, weights = outputGradients + tile;
        int logs = weights + TRows.Count * TRows.Count * 2, deltas = logs + TRows.Count * 4;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, groupRow = warpRow & ~63, key = warpRow + (lane >> 2);
        Fetch<T, THead, TRows>(keys, arguments.K, place.FirstKey, place.Keys, place.Head, headDim);
        Fetch<T, THead, TRows>(queries, arguments.Q, place.FirstQuery, place.Queries, place.Head, headDim);
        Fetch<T, THead, TRows>(values, arguments.V, place.FirstKey, place.Keys, place.Head, headDim);
        Fetch<T, THead, TRows>(outputGradients, arguments.OutputGradient, place.FirstQuery, place.Queries, place.Head, headDim);
        Fetch<T, THead, TRows>(weights, arguments.Output, place.FirstQuery, place.Queries, place.Head, headDim);
        if (Group.IdxX < TRows.Count)
            AsyncCopy.Element<FP32>(logs + (Group.IdxX << 2), arguments.LogSumExp.At((long)place.Head * arguments.TotalQueries + place.FirstQuery + Group.IdxX), Group.IdxX < place.Queries ? 1 : 0);
        AsyncCopy.Commit();
        AsyncCopy.Wait(0);
        WarpGroupMma.Publish();
        HeadRows.Products<T, THead>(outputGradients, weights, deltas, TRows.Count, 2 * TRows.Count);
        Group.Barrier();

        ulong seed = TDropout.IsOn ? arguments.Dropout.WarpSeed() : 0;
        TSum dv = Accumulators.Zero<TSum>(), dk = Accumulators.Zero<TSum>(), dq = Accumulators.Zero<TSum>();
        if (groupRow < place.Keys)
        {
            TScores scores = Accumulators.Zero<TScores>(), dscores = Accumulators.Zero<TScores>();
            int ownKeys = keys + groupRow * rowBytes, ownValues = values + groupRow * rowBytes, corner = weights + warpRow * WeightBytes + HeadTile.LaneOfStores<T, Head64>(lane);
            // Whole tiles of 64 queries: what lies behind the last must be zero, because dK is the sum over all of it.
            for (int query0 = 0; query0 < ((place.Queries + 63) & ~63); query0 += columns)
            {
                int q = queries + query0 * rowBytes, gradient = outputGradients + query0 * rowBytes, number = (query0 << 2) + ((lane & 3) << 3);
                ScoreBits kept = TDropout.IsOn ? DroppedPairs.OfKeys(arguments.Dropout, seed, place, key, query0, columns, lane) : default;
                scores = WarpGroupHead.Multiply<TScores, T, THead>(scores, ownKeys, q);
                dscores = WarpGroupHead.Multiply<TScores, T, THead>(dscores, ownValues, gradient);
                WarpGroupMma.Wait(1);
                scores = ScoreRows.ExponentialsByColumn(scores, arguments.Factor, logs + number);
                WarpGroupMma.Wait(0);
                dscores = TDropout.IsOn ? ScoreRows.ScaledGradientByColumn(ScoreRows.Select(dscores, kept, 0), scores, arguments.Dropout.Scale, deltas + number)
                    : ScoreRows.GradientByColumn(dscores, scores, deltas + number);
                // Dropout's factor of dV comes at the end.
                if (TDropout.IsOn) scores = ScoreRows.Select(scores, kept, 0);
                // Keys behind the last: their probabilities may be infinite, and dQ is the sum over them too.
                if (groupRow + 64 > place.Keys) dscores = ScoreRows.Select(dscores, ScoreBits.Rows(key < place.Keys, key + 8 < place.Keys), 0);
                dv = WarpGroupHead.Accumulate<TSum, TFragments, T, THead>(dv, WarpGroupHead.Pack<TFragments, TScores, T>(scores), gradient);
                WarpGroupHead.Store<TFragments, T, Head64>(WarpGroupHead.Pack<TFragments, TScores, T>(dscores), (corner + (query0 >> 6) * TRows.Count * WeightBytes) ^ ((query0 & 32) << 1));
                WarpGroupMma.Wait(0);
            }
        }
        WarpGroupMma.Publish();
        Group.Barrier();
        if (groupRow < place.Keys)
            for (int query0 = 0; query0 < place.Queries; query0 += 64)
            {
                dk = WarpGroupHead.AccumulateStored<TSum, T, THead>(dk, weights + ((query0 >> 6) * TRows.Count + groupRow) * WeightBytes, queries + query0 * rowBytes);
                WarpGroupMma.Wait(0);
            }
        if (groupRow < place.Queries)
            for (int key0 = 0; key0 < place.Keys; key0 += 64)
            {
                dq = WarpGroupHead.AccumulateTransposed<TSum, T, THead>(dq, weights + ((groupRow >> 6) * TRows.Count + key0) * WeightBytes, keys + key0 * rowBytes);
                WarpGroupMma.Wait(0);
            }
        Group.Barrier();
        if (TDropout.IsOn) dv = ScoreRows.Scale(dv, RowPair.All(arguments.Dropout.Scale));
        HeadRows.StoreSums<T, THead, TSum>(dv, values, warpRow, arguments.Dv, place.FirstKey, 0, place.Keys, place.Head, headDim);
        HeadRows.StoreSums<T, THead, TSum>(ScoreRows.Scale(dk, RowPair.All(arguments.Scale)), keys, warpRow, arguments.Dk, place.FirstKey, 0, place.Keys, place.Head, headDim);
        HeadRows.StoreSums<T, THead, TSum>(ScoreRows.Scale(dq, RowPair.All(arguments.Scale)), queries, warpRow, arguments.Dq, place.FirstQuery, 0, place.Queries, place.Head, headDim);
    }

    private static void Fetch<T, THead, TRows>(int target, DeviceMatrix<T> matrix, int firstRow, int rows, int head, int headDim)
        where T : unmanaged, IElement where THead : struct, IHead where TRows : struct, IAttentionRows =>
        HeadRows.Open<T, THead>(matrix, firstRow, head, headDim).Fetch<T, THead>(target, 0, rows, TRows.Count, 2 * TRows.Count);
}
