namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// What compute-sanitizer would tell of one block, and more: accesses of different threads that nothing orders, asynchronous reads of what no fence.proxy.async published, memory
/// outside of what was given, values that nobody wrote. Exact for the run that is interpreted, whatever order the interpreter takes: orders come from bar.sync, bar.warp.sync, mbarriers
/// and waits for copies and products alone; shuffles, votes, ldmatrix and mma order registers, not memory. Device memory is watched in the same way, between the threads of a
/// block and between the blocks of a launch, which nothing orders.
/// </summary>
/// <remarks>
/// Not seen: what another run would do (a branch not taken, other sizes); bank conflicts; a write to what a bulk copy reads of device memory, from its issue on, by who knows of the issue; values
/// that nobody wrote inside of a wgmma's result, because its operands must be written whole. Atomics and volatile accesses are not understood: no kernel has them. An arrival at another block's
/// barrier counts as a release, though at the scope of its own block it only tells that reads are over.
/// </remarks>
internal sealed class PtxChecks(PtxProgram program, PtxAllocations device, PtxShadow shared, int sharedStart, int sharedEnd, PtxClusterClocks cluster, int rank, int serial, int firstSerial, string place)
{
    private readonly PtxClocks _clocks = cluster.Clocks;
    private readonly Dictionary<int, PtxNews> _barriers = [];
    private readonly PtxProductChecks _products = new(cluster.Warps);

    /// <summary>Fails when a thread is about to touch what is not the block's.</summary>
    public void Inside(PtxThread thread, int at, int size)
    {
        if (at < sharedStart || at + size > sharedEnd)
            throw Failure(thread.Position, $"of thread {thread.Index} touches {size} bytes of shared memory at {at}, the block has {sharedStart} to {sharedEnd}");
    }

    /// <summary>A value that nobody wrote decides where a thread goes or what it touches, or goes to device memory.</summary>
    public void Used(PtxThread thread) => throw Failure(thread.Position, $"of thread {thread.Index} uses a value that nobody wrote");

    /// <summary>A thread reads shared memory; bit i of the result says that pair of bytes i was never written.</summary>
    public ulong SharedRead(PtxThread thread, int at, int size)
    {
        Report(shared.Read(at, size, Actor(thread)), thread.Position, "reads", "shared", thread.Index);
        return shared.Undefined(at, size);
    }

    /// <summary>A thread writes shared memory; the values' bits i in <paramref name="undefined"/> have never been written.</summary>
    public void SharedWrite(PtxThread thread, int at, int size, ulong undefined)
    {
        Report(shared.Write(at, size, Actor(thread), undefined), thread.Position, "writes", "shared", thread.Index);
    }

    /// <summary>ldmatrix: a row that one lane points to and all lanes receive parts of, so that all must know of its writing.</summary>
    public ulong MatrixRead(PtxThread thread, int at)
    {
        const int rowBytes = 16;
        PtxActor actor = Actor(thread) with { Thread = -1, Known = _clocks.Common(cluster.Number(thread) & ~31, 32) };
        Report(shared.Read(at, rowBytes, actor), thread.Position, "reads", "shared", thread.Index);
        return shared.Undefined(at, rowBytes);
    }

    /// <summary>A thread reads device memory.</summary>
    public ulong GlobalRead(PtxThread thread, long at, int size)
    {
        PtxAllocations.Allocation memory = Find(thread, at, size);
        Report(memory.Shadow.Read(at - memory.Address, size, Actor(thread) with { FirstBlock = firstSerial }), thread.Position, "reads", "device", thread.Index);
        return memory.Shadow.Undefined(at - memory.Address, size);
    }

    /// <summary>A thread writes device memory.</summary>
    public void GlobalWrite(PtxThread thread, long at, int size, ulong undefined)
    {
        PtxAllocations.Allocation memory = Find(thread, at, size);
        if (undefined != 0) Used(thread);
        Report(memory.Shadow.Write(at - memory.Address, size, Actor(thread) with { FirstBlock = firstSerial }), thread.Position, "writes", "device", thread.Index);
    }

    /// <summary>cp.async begins: from here until its thread has waited nobody may touch the target.</summary>
    public void CopyBegins(PtxThread thread, int target, int size, long source, int read)
    {
        Inside(thread, target, size);
        if (read > 0) GlobalRead(thread, source, read);
        PtxActor actor = Actor(thread);
        Report(shared.Write(target, size, actor with { Deed = actor.Deed with { Epoch = PtxMark.Pending } }), thread.Position, "overwrites", "shared", thread.Index);
    }

    /// <summary>cp.async is waited for: from here it is as if its thread had written.</summary>
    public void CopyEnds(PtxThread thread, int target, int size, int at, long source, int read)
    {
        shared.Settle(target, size, new(cluster.Number(thread), _clocks.Now(cluster.Number(thread)), at, serial));
        if (read <= 0) return;
        PtxAllocations.Allocation memory = Find(thread, source, read);
        shared.Define(target, read, memory.Shadow, source - memory.Address);
    }

    /// <summary>A bulk copy begins to this block, by the asynchronous proxy and a thread of this block or another.</summary>
    public void BoxBegins(PtxThread thread, int target, int size, int barrier)
    {
        Inside(thread, target, size);
        PtxActor actor = Actor(thread) with { Clocks = _clocks };
        Report(shared.Write(target, size, actor with { Deed = actor.Deed with { Who = _barriers[barrier].Actor, Epoch = PtxMark.Pending } }), thread.Position, "overwrites", "shared", thread.Index);
    }

    /// <summary>A row of device memory that a bulk copy takes.</summary>
    public void BoxRow(PtxThread thread, long at, int size)
    {
        PtxAllocations.Allocation memory = Find(thread, at, size);
        Report(memory.Shadow.Read(at - memory.Address, size, Actor(thread) with { FirstBlock = firstSerial, Clocks = _clocks }), thread.Position, "copies", "device", thread.Index);
    }

    /// <summary>A bulk copy brings a pair of bytes.</summary>
    public void BoxValue(int target, long source)
    {
        PtxAllocations.Allocation memory = device.Find(source, 2);
        shared.Define(target, 2, memory.Shadow, source - memory.Address);
    }

    /// <summary>A bulk copy has come, in the phase that its barrier is in.</summary>
    public void BoxEnds(int target, int size, int barrier, int at) =>
        shared.Settle(target, size, new(_barriers[barrier].Actor, _barriers[barrier].Phases + 1, at, serial));

    /// <summary>A warp issues a product.</summary>
    public void ProductBegins(Span<PtxThread> lanes)
    {
        PtxThread first = lanes[0];
        string? mistake = _products.Issue(first.Index / 32, first.Position, _clocks.Common(cluster.Number(first), 32));
        if (mistake is not null) throw Failure(first.Position, mistake);
        foreach (PtxThread lane in lanes) _clocks.Tick(cluster.Number(lane));
    }

    /// <summary>A warp has waited for the oldest of its products, which now reads.</summary>
    public void ProductEnds(int warp) => _products.Retire(warp, _clocks.Retire((rank * cluster.Warps) + warp));

    /// <summary>The product that ended last in a warp has read a pair of bytes.</summary>
    public void ProductRead(int warp, int at)
    {
        (int position, int[] known, int epoch) = _products.Ended(warp);
        if (at < sharedStart || at + 2 > sharedEnd) throw Failure(position, $"reads shared memory at {at}, the block has {sharedStart} to {sharedEnd}");
        PtxActor actor = new(new(_clocks.Products((rank * cluster.Warps) + warp), epoch, position, serial), -1, known, serial, _clocks);
        Report(shared.Read(at, 2, actor), position, "reads", "shared", warp * 32);
        if (shared.Undefined(at, 2) != 0) throw Failure(position, $"of warp {warp} reads shared byte {at}, which nobody wrote");
    }

    /// <summary>Threads met at a barrier.</summary>
    public void Meet(int first, int count) => _clocks.Meet((rank * cluster.Threads) + first, count);

    /// <summary>mbarrier.init: an ordinary write, which everybody who uses the barrier must know of.</summary>
    public void BarrierMade(PtxThread thread, int address)
    {
        SharedWrite(thread, address, 8, 0);
        _barriers[address] = new PtxNews(_clocks.NewBarrier());
    }

    /// <summary>mbarrier.arrive, by a thread of this block or another: those who wait learn what it did.</summary>
    public void Arrives(PtxThread thread, int address)
    {
        SharedRead(thread, address, 8);
        _clocks.Release(cluster.Number(thread), _barriers[address]);
    }

    /// <summary>A phase of a barrier is over.</summary>
    public void PhaseEnds(int address) => _barriers[address].End();

    /// <summary>mbarrier.try_wait passes.</summary>
    public void Waited(PtxThread thread, int address)
    {
        SharedRead(thread, address, 8);
        if (_barriers[address].Told is { Length: > 0 } told) _clocks.Learn(cluster.Number(thread), told);
    }

    /// <summary>barrier.cluster.arrive.</summary>
    public void ArrivesAtCluster(PtxThread thread) => _clocks.Release(cluster.Number(thread), cluster.Meetings);

    /// <summary>barrier.cluster.wait passes.</summary>
    public void MeetsCluster(PtxThread thread) => _clocks.Learn(cluster.Number(thread), cluster.Meetings.Told);

    /// <summary>fence.proxy.async.</summary>
    public void Fence(PtxThread thread) => _clocks.Fence(cluster.Number(thread));

    /// <summary>All threads have exited; <paramref name="copy"/> is a bulk copy that is still under way.</summary>
    public void Finish(int? copy)
    {
        if (copy is { } position) throw Failure(position, "is under way when the block exits");
        if (_products.Unfinished() is { } mistake) throw new InvalidOperationException($"{place}: {mistake}");
    }

    /// <summary>The exception that names an instruction, the kernel and the block.</summary>
    public InvalidOperationException Failure(int position, string what) => new($"{place}: {Instruction(position)} {what}");

    private PtxActor Actor(PtxThread thread) =>
        new(new(cluster.Number(thread), _clocks.Now(cluster.Number(thread)), thread.Position, serial), cluster.Number(thread), _clocks.Known(cluster.Number(thread)), serial);

    private PtxAllocations.Allocation Find(PtxThread thread, long at, int size)
    {
        try
        {
            return device.Find(at, size);
        }
        catch (InvalidOperationException e)
        {
            throw Failure(thread.Position, $"of thread {thread.Index}: {e.Message}");
        }
    }

    private string Instruction(int position)
    {
        const int most = 100;
        string text = program.Code[position].Text;
        return text.Length <= most ? $"'{text}'" : $"'{text[..most]}...'";
    }

    private void Report(PtxConflict? found, int position, string verb, string memory, int thread)
    {
        if (found is not { } conflict) return;
        string deed = conflict.WasWrite ? "writes" : "reads", other = $"{Instruction(conflict.Other.At)} of {Name(conflict.Other)}";
        string why = conflict.LacksFence ? $"{other} writes with no fence.proxy.async behind it"
            : conflict.Other.Epoch == PtxMark.Pending ? $"{other} is still filling"
            : $"{other} {deed} with nothing between that orders them";
        throw Failure(position, $"of thread {thread} {verb} {memory} byte {conflict.Offset}, which {why}");
    }

    private string Name(PtxMark mark)
    {
        if (mark.Block != serial) return $"block {mark.Block - firstSerial} of the grid";
        return cluster.Name(mark.Who);
    }
}
