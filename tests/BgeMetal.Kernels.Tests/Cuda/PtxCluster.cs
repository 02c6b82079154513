namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// The blocks of a cluster of an interpreted kernel, which run together; a block on its own is a cluster of one. An address of another block's shared memory is
/// the address in that block, with the block's number plus one in the highest byte. Copies that are under way arrive one by one, the last issued first: what is sent to
/// all blocks reaches each of them at another time.
/// </summary>
internal sealed class PtxCluster
{
    private const int WindowBits = 24;

    private readonly Stack<(Action Copy, int At)> _copies = [];
    private readonly Dictionary<PtxThread, int> _arrived = [];
    private PtxThread[] _threads = [];
    private int _meetings;

    private PtxCluster(int index, int count) => (Index, Count) = (index, count);

    /// <summary>Its number within the grid, and the number of clusters there.</summary>
    public int Index { get; }

    /// <summary>Clusters of the grid.</summary>
    public int Count { get; }

    /// <summary>What its threads know of each other; null where nobody watches.</summary>
    public PtxClusterClocks? Clocks { get; init; }

    /// <summary>Its blocks, by rank.</summary>
    public PtxBlock[] Blocks { get; private set; } = [];

    /// <summary>Makes a cluster with its blocks.</summary>
    public static PtxCluster Of(int index, int count, int blocks, PtxClusterClocks? clocks, Func<int, PtxBlock> block)
    {
        PtxCluster cluster = new(index, count) { Clocks = clocks, Blocks = [.. Enumerable.Range(0, blocks).Select(block)] };
        for (int rank = 0; rank < blocks; rank++) (cluster.Blocks[rank].Cluster, cluster.Blocks[rank].Rank) = (cluster, rank);
        return cluster;
    }

    /// <summary>The threads that run, of all blocks.</summary>
    public void Begin(PtxThread[] threads) => _threads = threads;

    /// <summary>mapa: where <paramref name="address"/> lies in block <paramref name="rank"/>.</summary>
    public ulong Map(ulong address, int rank) => rank < Blocks.Length ? (address & ((1u << WindowBits) - 1)) | ((ulong)(rank + 1) << WindowBits)
        : throw new InvalidOperationException($"a cluster of {Blocks.Length} has no block {rank}");

    /// <summary>The block and the address in it that <paramref name="address"/> means to a thread of <paramref name="own"/>.</summary>
    /// <exception cref="InvalidOperationException">All threads of the block have ended.</exception>
    public (PtxBlock Block, int Address) Find(PtxBlock own, int address, PtxInstruction instruction)
    {
        int rank = address >> WindowBits;
        PtxBlock block = rank == 0 ? own : Blocks[rank - 1];
        return (Reached(block, instruction), address & ((1 << WindowBits) - 1));
    }

    /// <summary>A block that is still there.</summary>
    /// <exception cref="InvalidOperationException">All threads of the block have ended.</exception>
    public PtxBlock Reached(PtxBlock block, PtxInstruction instruction) => Array.Exists(_threads, t => t.Block == block && !t.Exited)
        ? block : throw new InvalidOperationException($"block {block.Rank} of the cluster has ended before '{instruction.Text}' reaches it");

    /// <summary>Sends a copy on its way; <paramref name="at"/> is the position of its instruction.</summary>
    public void Send(Action copy, int at) => _copies.Push((copy, at));

    /// <summary>The position of a copy that has not arrived, or null.</summary>
    public int? Unfinished => _copies.TryPeek(out (Action Copy, int At) copy) ? copy.At : null;

    /// <summary>Lets the copy that was sent last arrive; false when there is none.</summary>
    public bool Deliver()
    {
        if (!_copies.TryPop(out (Action Copy, int At) copy)) return false;
        copy.Copy();
        return true;
    }

    /// <summary>barrier.cluster.arrive.</summary>
    public void Arrive(PtxThread thread)
    {
        if (_arrived.TryGetValue(thread, out int meeting) && meeting == _meetings) throw new InvalidOperationException("a thread arrives twice at the cluster's barrier");
        _arrived[thread] = _meetings;
        thread.Block.Checks?.ArrivesAtCluster(thread);
    }

    /// <summary>barrier.cluster.wait: passes when all threads that have not ended have arrived.</summary>
    public bool Passes(PtxThread thread)
    {
        if (!_arrived.TryGetValue(thread, out int meeting)) throw new InvalidOperationException("a thread waits at the cluster's barrier without having arrived");
        if (meeting == _meetings && Array.TrueForAll(_threads, t => t.Exited || (_arrived.TryGetValue(t, out int at) && at == _meetings)))
        {
            _meetings++;
            Clocks?.Meetings.End();
        }
        return meeting < _meetings;
    }
}
