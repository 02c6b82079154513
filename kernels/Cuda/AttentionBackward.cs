using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the backward kernels.</summary>
internal struct AttentionGradientArguments<T> where T : unmanaged, IElement
{
    /// <summary>[queries or keys, heads * headDim].</summary>
    public DeviceMatrix<T> Q, K, V, Output, OutputGradient, Dq, Dk, Dv;

    /// <summary>[sequences + 1].</summary>
    public DevicePointer<int> QueryOffsets, KeyOffsets;

    /// <summary>[heads, queries]: the logarithms of the forward pass, and rowsum(dO * O).</summary>
    public DevicePointer<FP32> LogSumExp, Delta;

    /// <summary>What was dropped of the probabilities.</summary>
    public DropoutMask Dropout;

    /// <summary>Which pairs were visible.</summary>
    public VisibleKeys Visible;

    /// <summary>Sizes: of all queries, heads, a head, and tiles of the longest sequence.</summary>
    public int TotalQueries, Heads, HeadDim, Tiles;

    /// <summary>The scale, and the scale times log2(e).</summary>
    public float Scale, Factor;

    /// <summary>
    /// Issues the copies of the logarithms of <paramref name="columns"/> queries from <paramref name="query0"/> on, and behind them of their deltas; zero behind the last query, where the
    /// copied rows are zero too.
    /// </summary>
    public readonly void FetchNumbers(AttentionPlace place, int target, int query0, int columns)
    {
        int i = Group.IdxX;
        if (i >= 2 * columns) return;
        int query = query0 + (i < columns ? i : i - columns);
        long element = (long)place.Head * TotalQueries + place.FirstQuery + query;
        AsyncCopy.Element<FP32>(target + i * 4, (i < columns ? LogSumExp : Delta).At(element), query < place.Queries ? 1 : 0);
    }

    /// <summary>The logarithms of this lane's two rows, the query <paramref name="row"/> and the one 8 behind; +infinity behind the last query, which leaves no probabilities.</summary>
    public readonly RowPair Logarithms(AttentionPlace place, int row) => Rows(LogSumExp, place, row, float.PositiveInfinity);

    /// <summary>Their deltas; 0 behind the last query.</summary>
    public readonly RowPair Deltas(AttentionPlace place, int row) => Rows(Delta, place, row, 0);

    private readonly RowPair Rows(DevicePointer<FP32> numbers, AttentionPlace place, int row, float otherwise)
    {
        long first = (long)place.Head * TotalQueries + place.FirstQuery;
        return new()
        {
            Upper = row < place.Queries ? numbers.Load(first + row) : otherwise,
            Lower = row + 8 < place.Queries ? numbers.Load(first + row + 8) : otherwise,
        };
    }
}

/// <summary>
/// Attention's gradients (Dao et al., arXiv:2205.14135, algorithm 4) without atomics: probabilities are computed again from the scores and the forward pass's
/// logarithms, once by blocks that own 64 keys and go over the queries (dK, dV), once by blocks that own 64 queries and go over the keys (dQ). What a block
/// owns stays in registers or shared memory; what it goes over comes by cp.async in two stages. With P the probabilities and F the factors of dropout:
/// dV = (P * F)^T dO, dS = P * (dO V^T * F - rowsum(dO * O)), dQ = scale * dS K, dK = scale * dS^T Q. Grid: (sequences * tiles, heads).
/// </summary>
internal static class AttentionBackwardKernels
{
    /// <summary>
    /// Dynamic shared memory of heads of 32, 64 and 128 columns: two tiles of the block's own, two stages of two tiles of 64 rows (32 for 128 columns), and
    /// their rows' numbers.
    /// </summary>
    public const int Shared32 = (2 * 64 + 4 * 64) * AttentionTile.Row32 + 16 * 64 + SharedBlock.AlignmentSlack,
        Shared64 = (2 * 64 + 4 * 64) * AttentionTile.Row64 + 16 * 64 + SharedBlock.AlignmentSlack,
        Shared128 = (2 * 64 + 4 * 32) * AttentionTile.Row128 + 16 * 32 + SharedBlock.AlignmentSlack;

    /// <summary>The same in binary32, with stages of 32 rows.</summary>
    public const int Exact32 = (2 * 64 + 4 * 32) * 2 * AttentionTile.Row32 + 16 * 32 + SharedBlock.AlignmentSlack,
        Exact64 = (2 * 64 + 4 * 32) * 2 * AttentionTile.Row64 + 16 * 32 + SharedBlock.AlignmentSlack,
        Exact128 = (2 * 64 + 4 * 32) * 2 * AttentionTile.Row128 + 16 * 32 + SharedBlock.AlignmentSlack;

    /// <summary>delta = rowsum(dO * O) for each head. A warp takes a row, a lane a head.</summary>
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads)]
    public static void Delta<T>(AttentionGradientArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Grid.IdxX * 4 + (Group.IdxX >> 5);
        if (row >= arguments.TotalQueries) return;
        for (int head = Group.IdxX & 31; head < arguments.Heads; head += 32)
        {
            float sum = 0;
            for (int column = head * arguments.HeadDim; column < (head + 1) * arguments.HeadDim; column += 8)
                sum += arguments.OutputGradient.Load8(row, column).Dot(arguments.Output.Load8(row, column));
            arguments.Delta.Store((long)head * arguments.TotalQueries + row, sum);
        }
    }

    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator16), typeof(Fragments32), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared128, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact32, MinBlocks = 2)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact64, MinBlocks = 2)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact128, MinBlocks = 1)]
    public static void Keys<T, THead, TSum, TScores, TFragments, TDropout, TVisible>(AttentionGradientArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator
        where TFragments : unmanaged, IAccumulator where TDropout : struct, ISwitch where TVisible : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles);
        if (place.Row0 >= place.Keys) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), columns = 2 * TScores.Length, tile = columns * rowBytes;
        int ownKeys = SharedBlock.Open(), ownValues = ownKeys + AttentionTile.Rows * rowBytes, stage = ownValues + AttentionTile.Rows * rowBytes, numbers = stage + 4 * tile;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, key = place.Row0 + warpRow + (lane >> 2), headDim = arguments.HeadDim;
        HeadRows queries = HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim);
        HeadRows gradients = HeadRows.Open<T, THead>(arguments.OutputGradient, place.FirstQuery, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.K, place.FirstKey, place.Head, headDim).Fetch<T, THead>(ownKeys, place.Row0, place.Keys, AttentionTile.Rows);
        HeadRows.Open<T, THead>(arguments.V, place.FirstKey, place.Head, headDim).Fetch<T, THead>(ownValues, place.Row0, place.Keys, AttentionTile.Rows);
        queries.Fetch<T, THead>(stage, 0, place.Queries, columns);
        gradients.Fetch<T, THead>(stage + tile, 0, place.Queries, columns);
        arguments.FetchNumbers(place, numbers, 0, columns);
        AsyncCopy.Commit();
        int laneRows = warpRow * rowBytes + HeadTile.LaneOfRows<T, THead>(lane), laneColumns = HeadTile.LaneOfColumns<T, THead>(lane), laneDepth = HeadTile.LaneOfDepth<T, THead>(lane);
        AsyncCopy.Wait(0);
        Group.Barrier();
        TFragments k = HeadMma.LoadRows<TFragments, T, THead>(ownKeys + laneRows), v = HeadMma.LoadRows<TFragments, T, THead>(ownValues + laneRows);

        bool busy = place.Row0 + warpRow < place.Keys;
        TSum dk = Accumulators.Zero<TSum>(), dv = Accumulators.Zero<TSum>();
        int turn = 0;
        for (int query0 = 0; query0 < place.Queries; query0 += columns)
        {
            int q = stage + turn * 2 * tile, gradient = q + tile, logs = numbers + turn * columns * 8 + ((lane & 3) << 3), deltas = logs + columns * 4;
            AsyncCopy.Wait(0);
            Group.Barrier();
            turn = 1 - turn;
            queries.Fetch<T, THead>(stage + turn * 2 * tile, query0 + columns, place.Queries, columns);
            gradients.Fetch<T, THead>(stage + (turn * 2 + 1) * tile, query0 + columns, place.Queries, columns);
            arguments.FetchNumbers(place, numbers + turn * columns * 8, query0 + columns, columns);
            AsyncCopy.Commit();
            if (!busy) continue;
            if (THead.Columns > 64)
            {
                // Too many to stay in registers.
                k = HeadMma.LoadRows<TFragments, T, THead>(ownKeys + laneRows);
                v = HeadMma.LoadRows<TFragments, T, THead>(ownValues + laneRows);
            }
            TScores scores = HeadMma.Multiply<TScores, TFragments, T, THead>(Accumulators.Zero<TScores>(), k, q + laneColumns);
            if (TVisible.IsOn)
                if (!arguments.Visible.IsNull)
                    scores = ScoreRows.Select(scores, arguments.Visible.OfKeys(place, key, query0, columns, lane), VisibleKeys.Hidden);
            scores = ScoreRows.ExponentialsByColumn(scores, arguments.Factor, logs);
            TScores dscores = HeadMma.Multiply<TScores, TFragments, T, THead>(Accumulators.Zero<TScores>(), v, gradient + laneColumns);
            if (TDropout.IsOn & (!TVisible.IsOn | arguments.Dropout.IsOn))
            {
                ScoreBits kept = DroppedPairs.OfKeys(arguments.Dropout, place, key, query0, columns, lane);
                dscores = ScoreRows.Keep(dscores, kept, arguments.Dropout.Scale);
                dscores = ScoreRows.GradientByColumn(dscores, scores, deltas);
                scores = ScoreRows.Keep(scores, kept, arguments.Dropout.Scale);
            }
            else
            {
                dscores = ScoreRows.GradientByColumn(dscores, scores, deltas);
            }
            dv = HeadMma.Accumulate<TSum, TScores, T, THead>(dv, scores, gradient + laneDepth);
            dk = HeadMma.Accumulate<TSum, TScores, T, THead>(dk, dscores, q + laneDepth);
        }
        AsyncCopy.Wait(0);
        int corner = ownKeys + ((warpRow + (lane >> 2)) * (THead.Columns + 8) + ((lane & 3) << 1)) * 4;
        Group.Barrier();
        HeadMma.Stage(dv, corner, THead.Columns + 8);
        Group.Barrier();
        HeadRows.Store<T, THead>(ownKeys, arguments.Dv, place.FirstKey, place.Row0, place.Keys, place.Head, headDim);
        Group.Barrier();
        HeadMma.Stage(ScoreRows.Scale(dk, RowPair.All(arguments.Scale)), corner, THead.Columns + 8);
        Group.Barrier();
        HeadRows.Store<T, THead>(ownKeys, arguments.Dk, place.FirstKey, place.Row0, place.Keys, place.Head, headDim);
    }

    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Off), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Off),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator32), typeof(Fragments8), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared32, MinBlocks = 3, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator32), typeof(Fragments16), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared64, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator16), typeof(Fragments32), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Low, SharedBytes = Shared128, MinBlocks = 2, TensorCores = true)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head32), typeof(Accumulator16), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact32, MinBlocks = 2)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head64), typeof(Accumulator32), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact64, MinBlocks = 2)]
    [CudaKernel("Attention", KernelDirection.Backward, AttentionTile.Threads, typeof(Head128), typeof(Accumulator64), typeof(Accumulator16), typeof(FragmentAddress), typeof(Dropped), typeof(Masked),
        Elements = ElementTypes.Single, SharedBytes = Exact128, MinBlocks = 1)]
    public static void Queries<T, THead, TSum, TScores, TFragments, TDropout, TVisible>(AttentionGradientArguments<T> arguments)
        where T : unmanaged, IElement where THead : struct, IHead where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator
        where TFragments : unmanaged, IAccumulator where TDropout : struct, ISwitch where TVisible : struct, ISwitch
    {
        AttentionPlace place = AttentionPlace.Open(arguments.QueryOffsets, arguments.KeyOffsets, arguments.Tiles);
        if (place.Row0 >= place.Queries) return;
        int rowBytes = HeadTile.RowBytes<T, THead>(), columns = 2 * TScores.Length, tile = columns * rowBytes;
        int ownQueries = SharedBlock.Open(), ownGradients = ownQueries + AttentionTile.Rows * rowBytes, stage = ownGradients + AttentionTile.Rows * rowBytes;
        int lane = Group.IdxX & 31, warpRow = WarpShuffle.First(Group.IdxX >> 5) << 4, row = place.Row0 + warpRow + (lane >> 2), headDim = arguments.HeadDim;
        HeadRows keys = HeadRows.Open<T, THead>(arguments.K, place.FirstKey, place.Head, headDim);
        HeadRows values = HeadRows.Open<T, THead>(arguments.V, place.FirstKey, place.Head, headDim);
        HeadRows.Open<T, THead>(arguments.Q, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(ownQueries, place.Row0, place.Queries, AttentionTile.Rows);
        HeadRows.Open<T, THead>(arguments.OutputGradient, place.FirstQuery, place.Head, headDim).Fetch<T, THead>(ownGradients, place.Row0, place.Queries, AttentionTile.Rows);
        keys.Fetch<T, THead>(stage, 0, place.Keys, columns);
        values.Fetch<T, THead>(stage + tile, 0, place.Keys, columns);
        AsyncCopy.Commit();
        RowPair log = arguments.Logarithms(place, row) * -DeviceMath.Log2E;
        RowPair delta = arguments.Deltas(place, row);
        int laneRows = warpRow * rowBytes + HeadTile.LaneOfRows<T, THead>(lane), laneColumns = HeadTile.LaneOfColumns<T, THead>(lane), laneDepth = HeadTile.LaneOfDepth<T, THead>(lane);
        AsyncCopy.Wait(0);
        Group.Barrier();
        TFragments q = HeadMma.LoadRows<TFragments, T, THead>(ownQueries + laneRows), gradient = HeadMma.LoadRows<TFragments, T, THead>(ownGradients + laneRows);

        bool busy = place.Row0 + warpRow < place.Queries;
        TSum dq = Accumulators.Zero<TSum>();
        int turn = 0;
        for (int key0 = 0; key0 < place.Keys; key0 += columns)
        {
            int k = stage + turn * 2 * tile, v = k + tile;
            AsyncCopy.Wait(0);
            Group.Barrier();
            turn = 1 - turn;
            keys.Fetch<T, THead>(stage + turn * 2 * tile, key0 + columns, place.Keys, columns);
            values.Fetch<T, THead>(stage + (turn * 2 + 1) * tile, key0 + columns, place.Keys, columns);
            AsyncCopy.Commit();
            if (!busy) continue;
            TScores scores = HeadMma.Multiply<TScores, TFragments, T, THead>(Accumulators.Zero<TScores>(), q, k + laneColumns);
            if (TVisible.IsOn)
                if (!arguments.Visible.IsNull)
                    scores = ScoreRows.Select(scores, arguments.Visible.OfQueries(place, row, key0, columns, lane), VisibleKeys.Hidden);
            if (key0 + columns > place.Keys) scores = ScoreRows.Select(scores, ScoreBits.Columns(place.Keys - key0, lane), float.NegativeInfinity);
            scores = ScoreRows.Exponentials(scores, arguments.Factor, log);
            TScores dscores = HeadMma.Multiply<TScores, TFragments, T, THead>(Accumulators.Zero<TScores>(), gradient, v + laneColumns);
            if (TDropout.IsOn)
                if (!TVisible.IsOn | arguments.Dropout.IsOn)
                    dscores = ScoreRows.Keep(dscores, DroppedPairs.OfQueries(arguments.Dropout, place, row, key0, columns, lane), arguments.Dropout.Scale);
            dscores = ScoreRows.Gradient(dscores, scores, delta);
            dq = HeadMma.Accumulate<TSum, TScores, T, THead>(dq, dscores, k + laneDepth);
        }
        AsyncCopy.Wait(0);
        Group.Barrier();
        HeadMma.Stage(ScoreRows.Scale(dq, RowPair.All(arguments.Scale)),
            ownQueries + ((warpRow + (lane >> 2)) * (THead.Columns + 8) + ((lane & 3) << 1)) * 4, THead.Columns + 8);
        Group.Barrier();
        HeadRows.Store<T, THead>(ownQueries, arguments.Dq, place.FirstQuery, place.Row0, place.Queries, place.Head, headDim);
    }
}
