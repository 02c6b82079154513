using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;
using static BgeMetal.Kernels.Runtime.CudaKernelAttribute;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// <see cref="AttentionBackwardKernels"/> with products by warp groups, for half-precision heads of up to 64 columns without a mask. A block owns 128 rows, a group 64 of them; both go
/// over the same tiles of 64, which come by cp.async in two stages: half the bytes from the second-level cache. Scores and their gradients stay in registers and are rounded there to
/// the first operand of the products that use them. The exponentials run while the second product is under way, and one group's beside the other's products. <see cref="Queries"/> comes
/// first: it has the rows of the output's gradient at hand and leaves their deltas for <see cref="Keys"/>.
/// </summary>
internal static class WarpGroupAttentionBackwardKernels
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = Rows128.Threads;

    /// <summary>Rows that a block owns, and rows of a turn.</summary>
    public const int Rows = 128, Columns = 64;

    /// <summary>Dynamic shared memory of heads of 32 and 64 columns: two tiles of the block's own, two stages of two tiles, and their rows' numbers.</summary>
    public const int Shared32 = (2 * Rows + 4 * Columns) * AttentionTile.Row32 + 16 * Columns, Shared64 = (2 * Rows + 4 * Columns) * AttentionTile.Row64 + 16 * Columns;

    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head64), typeof(Accumulator32), typeof(Fragments16), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 1, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head64), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 1, TensorCores = true, Architecture = Hopper)]
    public static void Keys<T, THead, TSum, TOwn, TDropout>(AttentionGradientArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TOwn : unmanaged, IAccumulator where TDropout : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles, Rows);
        if (place.Row0 >= place.Keys) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), tile = Columns * rowBytes, headDim = arguments.HeadDim;
        int ownKeys = SharedBlock.OpenAligned(), ownValues = ownKeys + Rows * rowBytes, stages = ownValues + Rows * rowBytes, numbers = stages + 4 * tile;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, key = place.Row0 + warpRow + (lane >> 2);
        HeadStream queries = HeadStream.Open<T, THead>(arguments.Q, place.FirstQuery, place.Queries, place.Head, headDim);
        HeadStream gradients = HeadStream.Open<T, THead>(arguments.OutputGradient, place.FirstQuery, place.Queries, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.K, place.FirstKey, place.Head, headDim).Fetch<T, THead>(ownKeys, place.Row0, place.Keys, Rows, Threads);
        HeadRows.Open<T, THead>(arguments.V, place.FirstKey, place.Head, headDim).Fetch<T, THead>(ownValues, place.Row0, place.Keys, Rows, Threads);
        queries.Fetch<T, THead>(stages, Columns, Threads);
        gradients.Fetch<T, THead>(stages + tile, Columns, Threads);
        arguments.FetchNumbers(place, numbers, 0, Columns);
        AsyncCopy.Commit();
        if (TOwn.Length > 1)
        {
            AsyncCopy.Wait(0);
            Group.Barrier();
        }
        GroupRows<TOwn> k = GroupRows<TOwn>.Open<T, THead>(ownKeys, warpRow), v = GroupRows<TOwn>.Open<T, THead>(ownValues, warpRow);

        // dV while the gradients of scores are being computed: for this 16 more registers are needed, which four groups a multiprocessor have not.
        bool busy = place.Row0 + (warpRow & ~63) < place.Keys, addsEarly = !TDropout.IsOn & TOwn.Length > 1;
        TSum dk = Accumulators.Zero<TSum>(), dv = Accumulators.Zero<TSum>();
        Accumulator32 scores = Accumulators.Zero<Accumulator32>(), dscores = Accumulators.Zero<Accumulator32>();
        ulong seed = TDropout.IsOn ? arguments.Dropout.WarpSeed() : 0;
        int turn = 0;
        for (int query0 = 0; query0 < place.Queries; query0 += Columns)
        {
            int q = stages + turn * 2 * tile, gradient = q + tile, logs = numbers + turn * Columns * 8 + ((lane & 3) << 3), deltas = logs + Columns * 4;
            AsyncCopy.Wait(0);
            WarpGroupMma.Publish();
            // Behind this nobody reads what the last turn did.
            Group.Barrier();
            turn = 1 - turn;
            queries.Fetch<T, THead>(stages + turn * 2 * tile, Columns, Threads);
            gradients.Fetch<T, THead>(stages + (turn * 2 + 1) * tile, Columns, Threads);
            arguments.FetchNumbers(place, numbers + turn * Columns * 8, query0 + Columns, Columns);
            AsyncCopy.Commit();
            if (!busy) continue;
            ScoreBits kept = TDropout.IsOn ? DroppedPairs.OfKeys(arguments.Dropout, seed, place, key, query0, Columns, lane) : default;
            scores = k.Multiply<Accumulator32, T, THead>(scores, q);
            dscores = v.Multiply<Accumulator32, T, THead>(dscores, gradient);
            WarpGroupMma.Wait(1);
            scores = ScoreRows.ExponentialsByColumn(scores, arguments.Factor, logs);
            if (addsEarly) dv = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(dv, WarpGroupHead.Pack<Fragments16, Accumulator32, T>(scores), gradient);
            WarpGroupMma.Wait(addsEarly ? 1 : 0);
            dscores = TDropout.IsOn ? ScoreRows.ScaledGradientByColumn(ScoreRows.Select(dscores, kept, 0), scores, arguments.Dropout.Scale, deltas)
                : ScoreRows.GradientByColumn(dscores, scores, deltas);
            dk = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(dk, WarpGroupHead.Pack<Fragments16, Accumulator32, T>(dscores), q);
            // Dropout's factor of dV comes at the end.
            if (TDropout.IsOn) scores = ScoreRows.Select(scores, kept, 0);
            if (!addsEarly) dv = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(dv, WarpGroupHead.Pack<Fragments16, Accumulator32, T>(scores), gradient);
            WarpGroupMma.Wait(0);
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        if (TDropout.IsOn) dv = ScoreRows.Scale(dv, RowPair.All(arguments.Dropout.Scale));
        HeadRows.StoreSums<T, THead, TSum>(dv, ownValues, warpRow, arguments.Dv, place.FirstKey, place.Row0, place.Keys, place.Head, headDim);
        HeadRows.StoreSums<T, THead, TSum>(ScoreRows.Scale(dk, RowPair.All(arguments.Scale)), ownKeys, warpRow, arguments.Dk, place.FirstKey, place.Row0, place.Keys, place.Head, headDim);
    }

    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head64), typeof(Accumulator32), typeof(FragmentAddress), typeof(Off), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared32,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Attention", KernelDirection.Backward, Threads, typeof(Head64), typeof(Accumulator32), typeof(FragmentAddress), typeof(Dropped), Elements = ElementTypes.Low, SharedBytes = Shared64,
        MinBlocks = 2, TensorCores = true, Architecture = Hopper)]
    public static void Queries<T, THead, TSum, TOwn, TDropout>(AttentionGradientArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TOwn : unmanaged, IAccumulator where TDropout : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles, Rows);
        if (place.Row0 >= place.Queries) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), tile = Columns * rowBytes, headDim = arguments.HeadDim;
        int ownQueries = SharedBlock.OpenAligned(), ownGradients = ownQueries + Rows * rowBytes, stages = ownGradients + Rows * rowBytes, numbers = stages + 4 * tile;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, row = place.Row0 + warpRow + (lane >> 2);
        HeadStream keys = HeadStream.Open<T, THead>(arguments.K, place.FirstKey, place.Keys, place.Head, headDim);
        HeadStream values = HeadStream.Open<T, THead>(arguments.V, place.FirstKey, place.Keys, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(ownQueries, place.Row0, place.Queries, Rows, Threads);
        HeadRows.Open<T, THead>(arguments.OutputGradient, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(ownGradients, place.Row0, place.Queries, Rows, Threads);
        keys.Fetch<T, THead>(stages, Columns, Threads);
        values.Fetch<T, THead>(stages + tile, Columns, Threads);
        // The output waits where the second stage will be.
        HeadRows.Open<T, THead>(arguments.Output, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(stages + 2 * tile, place.Row0, place.Queries, Rows, Threads);
        AsyncCopy.Commit();
        RowPair log = arguments.Logarithms(place, row) * -DeviceMath.Log2E;
        AsyncCopy.Wait(0);
        HeadRows.Products<T, THead>(ownGradients, stages + 2 * tile, numbers, Rows, Threads);
        Group.Barrier();
        int number = numbers + ((warpRow + (lane >> 2)) << 2);
        RowPair delta = new() { Upper = SharedBlock.Load(number), Lower = SharedBlock.Load(number + 32) };
        if (Group.IdxX < Rows & place.Row0 + Group.IdxX < place.Queries)
            arguments.Delta.Store((long)place.Head * arguments.TotalQueries + place.FirstQuery + place.Row0 + Group.IdxX, SharedBlock.Load(numbers + (Group.IdxX << 2)));
        GroupRows<TOwn> q = GroupRows<TOwn>.Open<T, THead>(ownQueries, warpRow), gradient = GroupRows<TOwn>.Open<T, THead>(ownGradients, warpRow);

        bool busy = place.Row0 + (warpRow & ~63) < place.Queries;
        TSum dq = Accumulators.Zero<TSum>();
        Accumulator32 scores = Accumulators.Zero<Accumulator32>(), dscores = Accumulators.Zero<Accumulator32>();
        ulong seed = TDropout.IsOn ? arguments.Dropout.WarpSeed() : 0;
        int turn = 0;
        for (int key0 = 0; key0 < place.Keys; key0 += Columns)
        {
            int k = stages + turn * 2 * tile, v = k + tile;
            AsyncCopy.Wait(0);
            WarpGroupMma.Publish();
            // Behind this nobody reads what the last turn did.
            Group.Barrier();
            turn = 1 - turn;
            keys.Fetch<T, THead>(stages + turn * 2 * tile, Columns, Threads);
            values.Fetch<T, THead>(stages + (turn * 2 + 1) * tile, Columns, Threads);
            AsyncCopy.Commit();
            if (!busy) continue;
            ScoreBits kept = TDropout.IsOn ? DroppedPairs.OfQueries(arguments.Dropout, seed, place, row, key0, Columns, lane) : default;
            scores = q.Multiply<Accumulator32, T, THead>(scores, k);
            dscores = gradient.Multiply<Accumulator32, T, THead>(dscores, v);
            WarpGroupMma.Wait(1);
            scores = ScoreRows.Exponentials(scores, arguments.Factor, log);
            WarpGroupMma.Wait(0);
            dscores = TDropout.IsOn ? ScoreRows.ScaledGradient(ScoreRows.Select(dscores, kept, 0), scores, arguments.Dropout.Scale, delta)
                : ScoreRows.Gradient(dscores, scores, delta);
            // Keys behind the last: their probabilities may be infinite, and their rows of zeros would not help.
            if (key0 + Columns > place.Keys) dscores = ScoreRows.Select(dscores, ScoreBits.Columns(place.Keys - key0, lane), 0);
            Fragments16 weights = WarpGroupHead.Pack<Fragments16, Accumulator32, T>(dscores);
            dq = WarpGroupHead.Accumulate<TSum, Fragments16, T, THead>(dq, weights, k);
            WarpGroupMma.Wait(0);
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        HeadRows.StoreSums<T, THead, TSum>(ScoreRows.Scale(dq, RowPair.All(arguments.Scale)), ownQueries, warpRow, arguments.Dq, place.FirstQuery, place.Row0, place.Queries, place.Head, headDim);
    }
}
