using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;
using static BgeMetal.Kernels.Runtime.CudaKernelAttribute;

namespace BgeMetal.Kernels.Cuda;

/// <summary>How many rows a block of <see cref="WarpGroupAttentionKernels"/> owns: 64 for each group of four warps. A compile-time constant.</summary>
internal interface IAttentionRows
{
    /// <summary>Rows; twice as many threads.</summary>
    static abstract int Count { get; }
}

/// <summary>One group: for sequences of up to 64 rows.</summary>
internal readonly struct Rows64 : IAttentionRows
{
    public const int Threads = 128;

    public static int Count => 64;
}

/// <summary>Two groups, which share what they stream: half the bytes from the second-level cache.</summary>
internal readonly struct Rows128 : IAttentionRows
{
    public const int Threads = 256;

    public static int Count => 128;
}

/// <summary>
/// <see cref="AttentionForwardKernels"/> with products by warp groups, for half-precision heads of up to 64 columns without a mask. A group owns 64 queries; 64 keys at a time, and the values of the 64
/// before them, come by cp.async in two stages. Scores stay in registers, are rounded there to the first operand of the second product, and that product and
/// the next scores are under way together. Groups and the blocks of a multiprocessor run by turns: one's softmax beside another's products.
/// </summary>
internal static class WarpGroupAttentionKernels
{
    /// <summary>Keys of a turn.</summary>
    public const int Columns = 64;

    /// <summary>Dynamic shared memory: queries, and two stages of values and keys.</summary>
    public const int Shared32 = (64 + 4 * Columns) * AttentionTile.Row32, Shared32Wide = (128 + 4 * Columns) * AttentionTile.Row32,
        Shared64 = (64 + 4 * Columns) * AttentionTile.Row64, Shared64Wide = (128 + 4 * Columns) * AttentionTile.Row64;

    /// <summary>The same where there is one turn: queries, keys and values.</summary>
    public const int SharedShort32 = 3 * 64 * AttentionTile.Row32, SharedShort64 = 3 * 64 * AttentionTile.Row64;

    // How far, in powers of two, exponentials may exceed those of the largest score: what was summed up is made smaller only then (Zadouri et al., FlashAttention-4: "conditional rescaling").
    // Nothing is lost: the factor cancels, and what a number of 16 bits holds of a weight does not depend on it.
    private const float Slack = 8;

    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head32), typeof(Rows64), typeof(Accumulator16), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head64), typeof(Rows64), typeof(Accumulator32), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows128.Threads, typeof(Head32), typeof(Rows128), typeof(Accumulator16), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared32Wide,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows128.Threads, typeof(Head64), typeof(Rows128), typeof(Accumulator32), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared64Wide,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head32), typeof(Rows64), typeof(Accumulator16), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head64), typeof(Rows64), typeof(Accumulator32), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 4, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows128.Threads, typeof(Head32), typeof(Rows128), typeof(Accumulator16), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared32Wide,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows128.Threads, typeof(Head64), typeof(Rows128), typeof(Accumulator32), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared64Wide,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    public static void Attend<T, THead, TRows, TSum, TDropout>(AttentionArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TRows : struct, IAttentionRows where TSum : unmanaged, IAccumulator where TDropout : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles, TRows.Count);
        if (place.Row0 >= place.Queries) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), tile = Columns * rowBytes, headDim = arguments.HeadDim, threads = 2 * TRows.Count;
        int shared = SharedBlock.OpenAligned(), stages = shared + TRows.Count * rowBytes;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, row = place.Row0 + warpRow + (lane >> 2);
        HeadStream keys = HeadStream.Open<T, THead>(arguments.K, place.FirstKey, place.Keys, place.Head, headDim);
        HeadStream values = HeadStream.Open<T, THead>(arguments.V, place.FirstKey, place.Keys, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(shared, place.Row0, place.Queries, TRows.Count, threads);
        // A stage holds values and the keys behind them; the first keys lie where the second stage's will.
        keys.Fetch<T, THead>(stages + 3 * tile, Columns, threads);
        AsyncCopy.Commit();
        values.Fetch<T, THead>(stages, Columns, threads);
        keys.Fetch<T, THead>(stages + tile, Columns, threads);
        AsyncCopy.Commit();
        AsyncCopy.Wait(1);
        WarpGroupMma.Publish();
        Group.Barrier();

        bool busy = place.Row0 + warpRow < place.Queries;
        int queries = shared + (warpRow & ~63) * rowBytes;
        RowPair max = RowPair.All(float.NegativeInfinity), sum = RowPair.All(0);
        TSum output = Accumulators.Zero<TSum>();
        Accumulator32 scores = WarpGroupHead.Multiply<Accumulator32, T, THead>(Accumulators.Zero<Accumulator32>(), queries, stages + 3 * tile);
        WarpGroupMma.Wait(0);
        int stage = stages;
        for (int key0 = 0; key0 < place.Keys; key0 += Columns)
        {
            Fragments16 weights = Accumulators.Zero<Fragments16>();
            RowPair shrink = RowPair.All(1);
            int rescale = 0;
            if (busy)
            {
                if (key0 + Columns > place.Keys) scores = ScoreRows.Select(scores, ScoreBits.Columns(place.Keys - key0, lane), float.NegativeInfinity);
                RowPair top = ScoreRows.Max(scores, max), rise = (top - max) * arguments.Factor;
                rescale = WarpVote.Ballot(rise.Upper > Slack | rise.Lower > Slack ? 1 : 0);
                if (rescale != 0)
                {
                    shrink = (rise * -1f).Exp2();
                    max = top;
                }
                scores = ScoreRows.Exponentials(scores, arguments.Factor, max * -arguments.Factor);
                sum = sum * shrink + ScoreRows.Sum(scores);
                if (TDropout.IsOn)
                    scores = ScoreRows.Keep(scores, DroppedPairs.OfQueries(arguments.Dropout, place, row, key0, Columns, lane), arguments.Dropout.Scale);
                weights = WarpGroupHead.Pack<Fragments16, Accumulator32, T>(scores);
            }
            output = ScoreRows.ScaleIf(output, shrink, rescale);
            AsyncCopy.Wait(0);
            WarpGroupMma.Publish();
            // Behind this nobody reads what the last turn did.
            Group.Barrier();
            int other = stages + stages + 2 * tile - stage;
            values.Fetch<T, THead>(other, Columns, threads);
            keys.Fetch<T, THead>(other + tile, Columns, threads);
            AsyncCopy.Commit();
            output = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(output, weights, stage);
            scores = WarpGroupHead.Multiply<Accumulator32, T, THead>(Accumulators.Zero<Accumulator32>(), queries, stage + tile);
            WarpGroupMma.Wait(0);
            stage = other;
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        Store<T, THead, TSum>(arguments, place, shared, output, max, sum);
    }

    /// <summary>
    /// The same for sequences of up to 64 queries and 64 keys: one turn. It waits for memory more than for anything else, so that what counts is how many blocks fit on a
    /// multiprocessor: what later turns would need does not take registers here.
    /// </summary>
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head32), typeof(Accumulator16), typeof(Off), Elements = ElementTypes.Low, SharedBytes = SharedShort32,
        MinBlocks = 6, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head64), typeof(Accumulator32), typeof(Off), Elements = ElementTypes.Low, SharedBytes = SharedShort64,
        MinBlocks = 6, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head32), typeof(Accumulator16), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = SharedShort32,
        MinBlocks = 6, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Forward, Rows64.Threads, typeof(Head64), typeof(Accumulator32), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = SharedShort64,
        MinBlocks = 6, TensorCores = true, Architecture = Hopper)]
    public static void AttendShort<T, THead, TSum, TDropout>(AttentionArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TDropout : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, tiles: 1);
        if (place.Queries <= 0) return;
        int headDim = arguments.HeadDim, tile = Columns * HeadTile.RowBytes<T, THead>(), shared = SharedBlock.OpenAligned();
        int lane = Group.IdxX & 31, row = (WarpShuffle.First(Group.IdxX >> 5) << 4) + (lane >> 2);
        HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(shared, 0, place.Queries, Columns);
        HeadRows.Open<T, THead>(arguments.K, place.FirstKey, place.Head, headDim).Fetch<T, THead>(shared + tile, 0, place.Keys, Columns);
        AsyncCopy.Commit();
        HeadRows.Open<T, THead>(arguments.V, place.FirstKey, place.Head, headDim).Fetch<T, THead>(shared + 2 * tile, 0, place.Keys, Columns);
        AsyncCopy.Commit();
        AsyncCopy.Wait(1);
        WarpGroupMma.Publish();
        Group.Barrier();
        Accumulator32 scores = WarpGroupHead.Multiply<Accumulator32, T, THead>(Accumulators.Zero<Accumulator32>(), shared, shared + tile);
        WarpGroupMma.Wait(0);
        RowPair max = RowPair.All(0), sum = max;
        Fragments16 weights = Accumulators.Zero<Fragments16>();
        if (row - (lane >> 2) < place.Queries)
        {
            if (place.Keys < Columns) scores = ScoreRows.Select(scores, ScoreBits.Columns(place.Keys, lane), float.NegativeInfinity);
            max = ScoreRows.Max(scores, RowPair.All(float.MinValue));
            scores = ScoreRows.Exponentials(scores, arguments.Factor, max * -arguments.Factor);
            sum = ScoreRows.Sum(scores);
            if (TDropout.IsOn)
                scores = ScoreRows.Keep(scores, DroppedPairs.OfQueries(arguments.Dropout, place, row, 0, Columns, lane), arguments.Dropout.Scale);
            weights = WarpGroupHead.Pack<Fragments16, Accumulator32, T>(scores);
        }
        AsyncCopy.Wait(0);
        WarpGroupMma.Publish();
        Group.Barrier();
        TSum output = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(Accumulators.Zero<TSum>(), weights, shared + 2 * tile);
        WarpGroupMma.Wait(0);
        Store<T, THead, TSum>(arguments, place, shared, output, max, sum);
    }

    // Behind a barrier that follows the scores: nobody reads the queries any more, whose places the results take.
    private static void Store<T, THead, TSum>(AttentionArguments<T> arguments, AttentionPlace place, int shared, TSum output, RowPair max, RowPair sum)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator
    {
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, row = place.Row0 + warpRow + (lane >> 2);
        if (place.Row0 + warpRow >= place.Queries) return;
        float upper = arguments.Finish<Off>(place, row, max.Upper, WarpShuffle.QuadSum(sum.Upper), lane);
        float lower = arguments.Finish<Off>(place, row + 8, max.Lower, WarpShuffle.QuadSum(sum.Lower), lane);
        output = ScoreRows.Scale(output, new() { Upper = upper, Lower = lower });
        HeadRows.StoreSums<T, THead, TSum>(output, shared, warpRow, arguments.Output, place.FirstQuery, place.Row0, place.Queries, place.Head, arguments.HeadDim);
    }
}
