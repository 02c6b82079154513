namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>A deed: by whom (an actor of <see cref="PtxClocks"/>), in which of its epochs, by which instruction, in which block of all that ever ran; the default is nobody's.</summary>
internal readonly record struct PtxMark(int Who, int Epoch, int At, int Block)
{
    /// <summary>The epoch of a copy that is under way: nobody knows that it is done.</summary>
    public const int Pending = int.MaxValue;
}

/// <summary>Somebody about to touch memory, and what he knows of others' deeds.</summary>
/// <param name="Deed">What is noted of it.</param>
/// <param name="Thread">The thread whose own deeds are known without further ado; -1 for what a whole warp does.</param>
/// <param name="Known">What he has learnt, by actor.</param>
/// <param name="FirstBlock">Deeds of earlier blocks are over: the first block of the launch for device memory, this block for shared memory.</param>
/// <param name="Clocks">Set for the asynchronous proxy, which sees writes of threads only behind their fences.</param>
internal readonly record struct PtxActor(PtxMark Deed, int Thread, int[] Known, int FirstBlock, PtxClocks? Clocks = null)
{
    /// <summary>Whether a deed happened before this one.</summary>
    public bool Knows(in PtxMark mark)
    {
        if (mark.Block < FirstBlock) return true;
        if (mark.Block != Deed.Block || mark.Epoch == PtxMark.Pending) return false;
        return mark.Who == Thread || Known[mark.Who] >= mark.Epoch;
    }

    /// <summary>Whether a write that happened before can be seen by this proxy.</summary>
    public bool Sees(in PtxMark write)
    {
        if (Clocks is null || write.Block != Deed.Block || write.Who >= Clocks.Threads) return true;
        int fence = Clocks.FencedBehind(write.Who, write.Epoch);
        return fence <= (write.Who == Thread ? Clocks.Now(Thread) : Known[write.Who]);
    }
}

/// <summary>Two deeds at one place that nothing orders.</summary>
/// <param name="Other">The earlier one.</param>
/// <param name="Offset">Bytes from the start of the memory.</param>
/// <param name="WasWrite">Whether the earlier one wrote.</param>
/// <param name="LacksFence">They are ordered, but the proxies are not.</param>
internal readonly record struct PtxConflict(PtxMark Other, long Offset, bool WasWrite, bool LacksFence);

/// <summary>
/// What happened to each pair of bytes of a piece of memory (the smallest access of the kernels): the last write, the reads since then that no later reader knew of, and whether
/// the value is defined.
/// </summary>
internal sealed class PtxShadow(long sizeBytes)
{
    private const int Grain = 1;

    private readonly PtxMark[] _writes = new PtxMark[(sizeBytes + 1) >> Grain];
    private readonly int[] _reads = new int[(sizeBytes + 1) >> Grain];
    private readonly bool[] _defined = new bool[(sizeBytes + 1) >> Grain];
    private (PtxMark Deed, int Knowledge, int Next)[] _nodes = new (PtxMark, int, int)[64];
    private int _used = 1, _free;

    /// <summary>Says of a range whether it has values.</summary>
    public void Define(long offset, long size, bool defined = true) => _defined.AsSpan((int)(offset >> Grain), Granules(offset, size)).Fill(defined);

    /// <summary>Takes over from elsewhere what is defined.</summary>
    public void Define(long offset, long size, PtxShadow source, long sourceOffset) =>
        source._defined.AsSpan((int)(sourceOffset >> Grain), Granules(sourceOffset, size)).CopyTo(_defined.AsSpan((int)(offset >> Grain)));

    /// <summary>Bit i: pair of bytes i from <paramref name="offset"/> on has no value; at most 128 bytes.</summary>
    public ulong Undefined(long offset, long size)
    {
        ulong undefined = 0;
        for (int i = 0; i < Granules(offset, size); i++)
            if (!_defined[(offset >> Grain) + i]) undefined |= 1ul << i;
        return undefined;
    }

    /// <summary>Notes a read.</summary>
    public PtxConflict? Read(long offset, long size, in PtxActor actor)
    {
        int first = (int)(offset >> Grain), end = first + Granules(offset, size);
        for (int g = first; g < end; g++)
        {
            ref PtxMark write = ref _writes[g];
            if (!actor.Knows(write)) return new(write, (long)g << Grain, WasWrite: true, LacksFence: false);
            if (!actor.Sees(write)) return new(write, (long)g << Grain, WasWrite: true, LacksFence: true);
            NoteRead(g, actor);
        }
        return null;
    }

    /// <summary>Notes a write; bit i of <paramref name="undefined"/> says that pair of bytes i gets no value.</summary>
    public PtxConflict? Write(long offset, long size, in PtxActor actor, ulong undefined = 0)
    {
        int first = (int)(offset >> Grain), end = first + Granules(offset, size);
        for (int g = first; g < end; g++)
        {
            ref PtxMark write = ref _writes[g];
            if (!actor.Knows(write)) return new(write, (long)g << Grain, WasWrite: true, LacksFence: false);
            if (!actor.Sees(write)) return new(write, (long)g << Grain, WasWrite: true, LacksFence: true);
            for (int node = _reads[g]; node != 0; node = _nodes[node].Next)
                if (!actor.Knows(_nodes[node].Deed)) return new(_nodes[node].Deed, (long)g << Grain, WasWrite: false, LacksFence: false);
            Release(g);
            write = actor.Deed;
            _defined[g] = (undefined >> Math.Min(g - first, 63) & 1) == 0;
        }
        return null;
    }

    /// <summary>A copy that was under way is there.</summary>
    public void Settle(long offset, long size, PtxMark deed) => _writes.AsSpan((int)(offset >> Grain), Granules(offset, size)).Fill(deed);

    private static int Granules(long offset, long size) => (int)(((offset + size + 1) >> Grain) - (offset >> Grain));

    // Readers whom this one knows need not be remembered: who knows this one knows them. He knows none of those who learnt last what he learnt last.
    private void NoteRead(int g, in PtxActor actor)
    {
        int head = _reads[g], knowledge = PtxClocks.Stamp(actor.Known);
        if (head != 0)
        {
            ref (PtxMark Deed, int Knowledge, int Next) newest = ref _nodes[head];
            if (newest.Deed.Who == actor.Deed.Who && newest.Deed.Block == actor.Deed.Block) newest.Deed = actor.Deed;
            else if (newest.Knowledge == knowledge) Prepend(g, actor.Deed, knowledge);
            else if (newest.Deed.Block < actor.FirstBlock || newest.Deed.Block == actor.Deed.Block) Walk(g, actor, knowledge);
            else if (newest.Next == 0 || _nodes[newest.Next].Deed.Block == newest.Deed.Block) KeepTwoBlocks(g, actor.Deed);
            return;
        }
        Prepend(g, actor.Deed, knowledge);
    }

    // Whoever writes what two blocks have read is at fault, whichever they are.
    private void KeepTwoBlocks(int g, PtxMark deed)
    {
        PtxMark other = _nodes[_reads[g]].Deed;
        Release(g);
        Prepend(g, other, 0);
        Prepend(g, deed, 0);
    }

    private void Walk(int g, in PtxActor actor, int knowledge)
    {
        int previous = 0;
        for (int node = _reads[g]; node != 0;)
        {
            (PtxMark deed, _, int next) = _nodes[node];
            if (deed.Block != actor.Deed.Block && deed.Block >= actor.FirstBlock) return;
            if (deed.Block == actor.Deed.Block && deed.Who == actor.Deed.Who)
            {
                _nodes[node].Deed = actor.Deed;
                return;
            }
            if (actor.Knows(deed))
            {
                if (previous == 0) _reads[g] = next;
                else _nodes[previous].Next = next;
                (_nodes[node].Next, _free) = (_free, node);
            }
            else
            {
                previous = node;
            }
            node = next;
        }
        Prepend(g, actor.Deed, knowledge);
    }

    private void Prepend(int g, PtxMark deed, int knowledge)
    {
        int taken = _free;
        if (taken != 0) _free = _nodes[taken].Next;
        else if ((taken = _used++) == _nodes.Length) Array.Resize(ref _nodes, 2 * _nodes.Length);
        _nodes[taken] = (deed, knowledge, _reads[g]);
        _reads[g] = taken;
    }

    private void Release(int g)
    {
        for (int node = _reads[g]; node != 0;)
        {
            int next = _nodes[node].Next;
            (_nodes[node].Next, _free) = (_free, node);
            node = next;
        }
        _reads[g] = 0;
    }
}
