using System.Numerics;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Who can know what in a block: vector clocks. Every thread counts its epochs and knows up to which epoch it has learnt of every other actor's deeds. Actors are the threads,
/// each warp's products (an epoch a wait that retired some) and each mbarrier's bulk copies (an epoch a phase). What a thread knows of others is an array
/// that is never changed, so that threads which met at a barrier share one; its last element is a number of its own.
/// </summary>
/// <remarks>C. Flanagan and S. N. Freund, FastTrack: Efficient and Precise Dynamic Race Detection, PLDI 2009.</remarks>
internal sealed class PtxClocks
{
    private const int MostBarriers = 64;
    private static int s_stamps;

    private readonly int[][] _known;
    private readonly int[] _now;
    private readonly List<int>?[] _fences;
    private readonly int _actors;
    private int _barriers;
    private (int[] Known, int[] News, int[] Sum) _latest = ([], [], []);

    public PtxClocks(int threads)
    {
        Threads = threads;
        _actors = threads + ((threads + 31) / 32) + MostBarriers + 1;
        int[] nothing = new int[_actors];
        nothing[^1] = Interlocked.Increment(ref s_stamps);
        (_known, _now, _fences) = (new int[threads][], new int[threads], new List<int>?[threads]);
        _known.AsSpan().Fill(nothing);
        _now.AsSpan().Fill(1);
    }

    /// <summary>Threads of the block; actors from here on are warps' products, then mbarriers.</summary>
    public int Threads { get; }

    /// <summary>The epoch that a thread is in.</summary>
    public int Now(int thread) => _now[thread];

    /// <summary>What a thread has learnt of the others; of itself it knows everything.</summary>
    public int[] Known(int thread) => _known[thread];

    /// <summary>The number of a piece of knowledge.</summary>
    public static int Stamp(int[] known) => known[^1];

    /// <summary>The actor that stands for a warp's products.</summary>
    public int Products(int warp) => Threads + warp;

    /// <summary>A new actor that stands for the copies which an mbarrier counts.</summary>
    public int NewBarrier() => _barriers < MostBarriers ? Threads + ((Threads + 31) / 32) + _barriers++ : throw new NotSupportedException("more mbarriers than the checks have room for");

    /// <summary>What every one of these threads has learnt.</summary>
    public int[] Common(int first, int count)
    {
        int[] common = _known[first];
        for (int t = first + 1; t < first + count; t++)
            if (!ReferenceEquals(common, _known[t])) common = Combine(common, _known[t], Vector.Min);
        return common;
    }

    /// <summary>Threads that wait for each other at a barrier know everything about each other afterwards.</summary>
    public void Meet(int first, int count)
    {
        int[] sum = _known[first];
        for (int t = first + 1; t < first + count; t++)
            if (!ReferenceEquals(_known[t], _known[t - 1])) sum = Combine(sum, _known[t], Vector.Max);
        sum = [.. sum];
        for (int t = first; t < first + count; t++) sum[t] = _now[t]++;
        sum[^1] = Interlocked.Increment(ref s_stamps);
        _known.AsSpan(first, count).Fill(sum);
    }

    /// <summary>Adds what a thread did and knows to what others will learn from <paramref name="news"/>.</summary>
    public void Release(int thread, PtxNews news)
    {
        news.Add(_known[thread], thread, _now[thread], _actors);
        _now[thread]++;
    }

    /// <summary>A thread learns; threads that know the same and learn the same share the array.</summary>
    public void Learn(int thread, int[] news)
    {
        if (!ReferenceEquals(_latest.Known, _known[thread]) || !ReferenceEquals(_latest.News, news))
            _latest = (_known[thread], news, Combine(_known[thread], news, Vector.Max));
        _known[thread] = _latest.Sum;
    }

    /// <summary>A warp's products are done: all its lanes know it. Returns their epoch.</summary>
    public int Retire(int warp)
    {
        int actor = Products(warp), epoch = _known[warp * 32][actor] + 1;
        int[] news = new int[_actors];
        news[actor] = epoch;
        for (int t = warp * 32; t < (warp + 1) * 32; t++) Learn(t, news);
        return epoch;
    }

    /// <summary>Ends a thread's epoch.</summary>
    public void Tick(int thread) => _now[thread]++;

    /// <summary>fence.proxy.async: what this thread wrote so far may be read by the asynchronous proxy, by whom who learns of the fence.</summary>
    public void Fence(int thread) => (_fences[thread] ??= []).Add(_now[thread]++);

    /// <summary>The first epoch of a thread whose knowledge includes a fence behind its epoch <paramref name="written"/>.</summary>
    public int FencedBehind(int thread, int written)
    {
        if (_fences[thread] is not { } fences) return int.MaxValue;
        int found = fences.BinarySearch(written);
        if (found < 0) found = ~found;
        return found < fences.Count ? fences[found] + 1 : int.MaxValue;
    }

    /// <summary>Element by element, a new array.</summary>
    public static int[] Combine(int[] x, int[] y, Func<Vector<int>, Vector<int>, Vector<int>> operation)
    {
        int[] sum = new int[x.Length];
        int i = 0;
        for (; i <= x.Length - Vector<int>.Count; i += Vector<int>.Count) operation(new(x, i), new(y, i)).CopyTo(sum, i);
        for (; i < x.Length; i++) sum[i] = operation(new(x[i]), new(y[i]))[0];
        sum[^1] = Interlocked.Increment(ref s_stamps);
        return sum;
    }
}

/// <summary>What is handed over at an mbarrier: everything that arrived so far, and what those who wait for the last finished phase learn.</summary>
internal sealed class PtxNews(int actor)
{
    private int[] _arrived = [];
    private int[]? _latest;

    /// <summary>The actor that stands for the barrier's copies.</summary>
    public int Actor => actor;

    /// <summary>Finished phases: the epoch of the copies that the last one counted.</summary>
    public int Phases { get; private set; }

    /// <summary>What the end of the last phase told.</summary>
    public int[] Told { get; private set; } = [];

    public void Add(int[] known, int thread, int now, int actors)
    {
        if (_arrived.Length == 0) _arrived = new int[actors];
        if (!ReferenceEquals(_latest, known)) _arrived = PtxClocks.Combine(_arrived, known, Vector.Max);
        _latest = known;
        _arrived[thread] = now;
    }

    /// <summary>A phase is over.</summary>
    public void End()
    {
        Phases++;
        if (_arrived.Length == 0) return;
        _arrived[actor] = Phases;
        Told = [.. _arrived];
    }
}
