namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The warps' asynchronous products between issue and wait, and whether the four warps of each group issue the same ones.</summary>
internal sealed class PtxProductChecks(int warps)
{
    private const int WarpsAGroup = 4;

    private readonly Queue<(int Position, int[] Known)>[] _underWay = [.. Enumerable.Range(0, warps).Select(_ => new Queue<(int, int[])>())];
    private readonly List<int>[] _issued = [.. Enumerable.Range(0, (warps + WarpsAGroup - 1) / WarpsAGroup).Select(_ => new List<int>())];
    private readonly int[] _count = new int[warps];
    private readonly (int Position, int[] Known, int Epoch)[] _ended = new (int, int[], int)[warps];

    /// <summary>A warp issues the product at <paramref name="position"/>, knowing what it knows; what is wrong with that, if anything.</summary>
    public string? Issue(int warp, int position, int[] known)
    {
        List<int> issued = _issued[warp / WarpsAGroup];
        int number = _count[warp]++;
        if (number == issued.Count) issued.Add(position);
        _underWay[warp].Enqueue((position, known));
        return issued[number] == position ? null : $"of warp {warp} is not what the other warps of its group issue";
    }

    /// <summary>The oldest product of a warp ends.</summary>
    public void Retire(int warp, int epoch)
    {
        (int position, int[] known) = _underWay[warp].Dequeue();
        _ended[warp] = (position, known, epoch);
    }

    /// <summary>What ended last in a warp: its instruction, what the warp knew when it was issued, and the epoch in which its reads are over.</summary>
    public (int Position, int[] Known, int Epoch) Ended(int warp) => _ended[warp];

    /// <summary>What is wrong when all threads have exited, if anything.</summary>
    public string? Unfinished()
    {
        for (int w = 0; w < warps; w++)
        {
            if (_underWay[w].Count > 0) return $"warp {w} exits with a product under way";
            if (_count[w] != _issued[w / WarpsAGroup].Count) return $"warp {w} issues {_count[w]} products, others of its group {_issued[w / WarpsAGroup].Count}";
        }
        return null;
    }
}
