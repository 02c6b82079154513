namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// The blocks of one cluster when a kernel runs on ILGPU's CPU accelerator: where each one's shared memory lies, and where all their threads meet. The
/// accelerator runs the two as one small grid, a cluster after the other, and no two clusters of the process at the same time. Never part of a GPU kernel.
/// </summary>
internal sealed unsafe class EmulatedCluster
{
    // A kernel that gets stuck should fail, not hang.
    private const int PatienceMilliseconds = 120_000;

    private static readonly Lock s_gate = new();
    private static volatile EmulatedCluster? s_running;

    private readonly nint[] _shared;
    private int _arrived, _meetings;

    private EmulatedCluster(int index, int count, int blocks) => (Index, Count, _shared) = (index, count, new nint[blocks]);

    /// <summary>The cluster that the calling emulated thread belongs to.</summary>
    /// <exception cref="InvalidOperationException">The kernel was launched without clusters.</exception>
    public static EmulatedCluster Running => s_running ?? throw new InvalidOperationException("the kernel does not run in clusters");

    /// <summary>Its number, and how many there are.</summary>
    public int Index { get; }

    /// <summary>Clusters of the launch.</summary>
    public int Count { get; }

    /// <summary>Blocks of the cluster.</summary>
    public int Blocks => _shared.Length;

    /// <summary>Runs <paramref name="launch"/>, a launch of <paramref name="blocks"/> blocks that returns when they are done, once for each cluster.</summary>
    public static void Run(int count, int blocks, Action launch)
    {
        lock (s_gate)
        {
            try
            {
                for (int i = 0; i < count; i++)
                {
                    s_running = new EmulatedCluster(i, count, blocks);
                    launch();
                }
            }
            finally
            {
                s_running = null;
            }
        }
    }

    /// <summary>The host pointer behind a shared address of block <paramref name="rank"/>.</summary>
    /// <exception cref="InvalidOperationException">The block has not met the others yet.</exception>
    public byte* Pointer(int rank, int address) => Volatile.Read(ref _shared[rank]) is var shared and not 0
        ? (byte*)shared + address : throw new InvalidOperationException("a block is reached before the cluster has met");

    /// <summary>Waits until all threads of all blocks have come.</summary>
    public void Meet(int rank, int threads)
    {
        lock (this)
        {
            _shared[rank] = (nint)SharedBlock.Pointer(0, 1);
            int meeting = _meetings;
            if (++_arrived == threads * Blocks)
            {
                _arrived = 0;
                _meetings++;
                Monitor.PulseAll(this);
            }
            while (_meetings == meeting)
                if (!Monitor.Wait(this, PatienceMilliseconds)) throw new InvalidOperationException("a block waits for another of its cluster that does not come");
        }
    }
}
