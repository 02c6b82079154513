namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The order in which rows of gradients are added to an embedding table, so that no two threads write one entry: the rows of each entry, in their own
/// order, cut into pieces of at most <see cref="PieceRows"/>. An entry with one piece is added to the table directly; the pieces of a frequent entry are
/// summed apart, and their sums added in a second pass.
/// </summary>
public sealed class EmbeddingGradientPlan
{
    /// <summary>The most rows that one piece adds up.</summary>
    public const int PieceRows = 64;

    private EmbeddingGradientPlan(int[] order, int[] starts, int[] targets, int[] mergeStarts, int[] mergeTargets, int partials)
    {
        (Order, Starts, Targets, MergeStarts, MergeTargets, Partials) = (order, starts, targets, mergeStarts, mergeTargets, partials);
    }

    /// <summary>Row numbers, grouped by entry.</summary>
    public IReadOnlyList<int> Order { get; }

    /// <summary>Where each piece begins in <see cref="Order"/>, and the end.</summary>
    public IReadOnlyList<int> Starts { get; }

    /// <summary>Each piece's table entry, or -1 - p for partial sum p.</summary>
    public IReadOnlyList<int> Targets { get; }

    /// <summary>Where each frequent entry's partial sums begin, and the end.</summary>
    public IReadOnlyList<int> MergeStarts { get; }

    /// <summary>Each frequent entry.</summary>
    public IReadOnlyList<int> MergeTargets { get; }

    /// <summary>The number of partial sums: the workspace needs that many rows.</summary>
    public int Partials { get; }

    /// <summary>
    /// Plans for the entries that rows 0, 1, ... came from; rows of the entry <paramref name="excluded"/> (padding, which takes no gradient; negative for none)
    /// are left out. O(rows log rows).
    /// </summary>
    /// <exception cref="ArgumentException">An entry is negative or not below <paramref name="entries"/>.</exception>
    public static EmbeddingGradientPlan Build(ReadOnlySpan<int> ids, int entries, int excluded = -1)
    {
        foreach (int id in ids)
            if ((uint)id >= (uint)entries) throw new ArgumentException($"entry {id} is not in a table of {entries}", nameof(ids));
        int[] order = new int[ids.Length];
        int kept = 0;
        for (int i = 0; i < ids.Length; i++)
            if (ids[i] != excluded) order[kept++] = i;
        Array.Resize(ref order, kept);
        // Ids first, row numbers second: a stable order.
        long[] keys = new long[kept];
        for (int i = 0; i < kept; i++) keys[i] = ((long)ids[order[i]] << 32) | (uint)order[i];
        Array.Sort(keys, order);
        List<int> starts = [], targets = [], mergeStarts = [], mergeTargets = [];
        int partials = 0;
        for (int begin = 0; begin < order.Length;)
        {
            int id = ids[order[begin]], end = begin;
            while (end < order.Length && ids[order[end]] == id) end++;
            bool frequent = end - begin > PieceRows;
            if (frequent)
            {
                mergeStarts.Add(partials);
                mergeTargets.Add(id);
            }
            for (; begin < end; begin += Math.Min(PieceRows, end - begin))
            {
                starts.Add(begin);
                targets.Add(frequent ? -1 - partials++ : id);
            }
        }
        starts.Add(order.Length);
        mergeStarts.Add(partials);
        return new(order, [.. starts], [.. targets], [.. mergeStarts], [.. mergeTargets], partials);
    }
}
