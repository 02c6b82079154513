namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What the blocks of a cluster know of each other: one set of clocks for the threads of all, numbered block by block. A block on its own is a cluster of one.</summary>
internal sealed class PtxClusterClocks
{
    public PtxClusterClocks(int blocks, int threads)
    {
        (Threads, Clocks) = (threads, new PtxClocks(blocks * threads));
        Meetings = new PtxNews(Clocks.NewBarrier());
    }

    /// <summary>Threads of a block.</summary>
    public int Threads { get; }

    /// <summary>Warps of a block.</summary>
    public int Warps => (Threads + 31) / 32;

    /// <summary>Everybody's clocks.</summary>
    public PtxClocks Clocks { get; }

    /// <summary>What is handed over at the cluster's barrier.</summary>
    public PtxNews Meetings { get; }

    /// <summary>A thread's number among all.</summary>
    public int Number(PtxThread thread) => (thread.Block.Rank * Threads) + thread.Index;

    /// <summary>An actor in words.</summary>
    public string Name(int actor)
    {
        int warp = actor - Clocks.Threads, warps = Clocks.Threads / Threads * Warps;
        if (warp >= warps) return "the copy engine";
        (string name, int block) = warp < 0 ? ($"thread {actor % Threads}", actor / Threads) : ($"warp {warp % Warps}", warp / Warps);
        return Clocks.Threads == Threads ? name : $"{name} of the cluster's block {block}";
    }
}
