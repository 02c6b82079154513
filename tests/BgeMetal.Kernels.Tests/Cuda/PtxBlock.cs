namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The block that threads of an interpreted kernel run in.</summary>
internal sealed class PtxBlock
{
    private readonly (int X, int Y, int Z) _grid, _index;
    private readonly int _threads;

    public PtxBlock(PtxProgram program, byte[] arguments, int sharedBytes, (int X, int Y, int Z) grid, (int X, int Y, int Z) index, int threads)
    {
        (Arguments, _grid, _index, _threads) = (arguments, grid, index, threads);
        SharedStart = StartOfShared(program);
        Shared = new byte[SharedStart + sharedBytes];
        Shared.AsSpan().Fill(0xff);
        Transfers = new PtxTransfers(this);
        TensorCores = [.. Enumerable.Range(0, (threads + 31) / 32).Select(warp => new PtxWarpGroup(this, warp))];
    }

    /// <summary>The end of the largest block's shared memory.</summary>
    public const int MostSharedBytes = 256 * 1024;

    public int SharedStart { get; }

    public byte[] Arguments { get; }

    public byte[] Shared { get; }

    /// <summary>What watches over the block's memory; null where nothing does.</summary>
    public PtxChecks? Checks { get; init; }

    /// <summary>The cluster it belongs to, and its number there.</summary>
    public PtxCluster Cluster { get; set; } = null!;

    /// <summary>Its number in the cluster.</summary>
    public int Rank { get; set; }

    /// <summary>The copy engine and the barriers it signals.</summary>
    public PtxTransfers Transfers { get; }

    /// <summary>Each warp's asynchronous products.</summary>
    public PtxWarpGroup[] TensorCores { get; }

    /// <summary>Where dynamic shared memory begins: deliberately aligned no better than the text asks for, and no multiple of 128 if it does not.</summary>
    public static int StartOfShared(PtxProgram program) => program.SharedAlignment > 16 ? 3 * program.SharedAlignment : 1040;

    public int Special(string name, int thread) => name switch
    {
        "%tid.x" => thread,
        "%tid.y" or "%tid.z" => 0,
        "%ntid.x" => _threads,
        "%ntid.y" or "%ntid.z" => 1,
        "%ctaid.x" => _index.X,
        "%ctaid.y" => _index.Y,
        "%ctaid.z" => _index.Z,
        "%nctaid.x" => _grid.X,
        "%nctaid.y" => _grid.Y,
        "%nctaid.z" => _grid.Z,
        "%cluster_ctarank" => Rank,
        "%clusterid.x" => Cluster.Index,
        "%nclusterid.x" => Cluster.Count,
        "%dynamic_smem_size" => Shared.Length - SharedStart,
        "__dyn_shared_alloca" => SharedStart,
        _ => throw new NotSupportedException(name),
    };
}
