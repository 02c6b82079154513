using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>
/// Batches drawn at random: for each, a group in proportion to its rows, and of it rows without replacement. Unlike <see cref="RowOrder"/>, an epoch may bring a
/// row twice or not at all. A batch is a function of (seed, epoch, number) alone. Thread-safe.
/// </summary>
internal sealed class RowDraw
{
    private readonly (int[] Rows, int BatchSize)[] _groups;
    private readonly int _seed;
    private readonly int _rows;

    /// <summary>Draws from <paramref name="groups"/>, at least one, each with at least one row.</summary>
    public RowDraw(IEnumerable<RowGroup> groups, int seed)
    {
        _groups = [.. groups.Select(group => (group.Ranges.SelectMany(range => Enumerable.Range(range.First, range.Count)).ToArray(), group.BatchSize))];
        _seed = seed;
        _rows = _groups.Sum(group => group.Rows.Length);
        BatchesPerEpoch = _groups.Sum(group => (int)(((long)group.Rows.Length + group.BatchSize - 1) / group.BatchSize));
    }

    /// <summary>As many batches as would hold every row once.</summary>
    public int BatchesPerEpoch { get; }

    /// <summary>The row numbers of a batch: as many as the group's batch holds, or all its rows where they are fewer.</summary>
    public ReadOnlyMemory<int> Batch(int epoch, int batch)
    {
        CounterRandom random = new(_seed, RandomPurpose.BatchDraw, epoch, batch);
        int ticket = random.Below(_rows), group = 0;
        while (ticket >= _groups[group].Rows.Length) ticket -= _groups[group++].Rows.Length;
        (int[] rows, int size) = _groups[group];
        int[] drawn = new int[Math.Min(size, rows.Length)];
        Dictionary<int, int> moved = [];
        for (int i = 0; i < drawn.Length; i++)
        {
            int j = i + random.Below(rows.Length - i);
            drawn[i] = rows[moved.GetValueOrDefault(j, j)];
            moved[j] = moved.GetValueOrDefault(i, i);
        }
        return drawn;
    }
}
