using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>Rows that share batches: a file, several small files of a folder, or the whole data set.</summary>
/// <param name="Ranges">The rows, as ranges of row numbers of the data set.</param>
/// <param name="BatchSize">Rows of a batch.</param>
/// <param name="NoInBatchNegatives">Whether the rows of a batch take no negatives from one another.</param>
internal sealed record RowGroup(IReadOnlyList<(int First, int Count)> Ranges, int BatchSize, bool NoInBatchNegatives)
{
    /// <summary>Rows of the group.</summary>
    public int Rows { get; } = Ranges.Sum(range => range.Count);
}

/// <summary>
/// Which rows each batch of each epoch holds. With shuffling, every epoch has a fresh random order of the rows within their group and of the batches of all groups;
/// without, groups and rows follow one another as they are in the files. Every row is in exactly one batch of an epoch, but for those a last, shorter batch of a
/// group would hold, if such batches are dropped. A batch is a function of (seed, epoch, number) alone, so a run can go on from any batch. Thread-safe.
/// Memory: four bytes a row for each of the two epochs used last.
/// </summary>
internal sealed class RowOrder
{
    private readonly RowGroup[] _groups;
    private readonly int _seed;
    private readonly bool _shuffle;
    private readonly int[] _firstRow;
    private readonly int[] _firstBatch;
    private readonly Lock _lock = new();
    private Epoch? _last;
    private Epoch? _beforeLast;

    /// <summary>Orders the rows of <paramref name="groups"/>.</summary>
    /// <param name="groups">Groups without a common row.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="shuffle">Whether the order is random; else it is that of the files.</param>
    /// <param name="dropLast">Whether a group's last batch is left out when it is not full.</param>
    public RowOrder(IEnumerable<RowGroup> groups, int seed, bool shuffle, bool dropLast)
    {
        _groups = [.. groups];
        _seed = seed;
        _shuffle = shuffle;
        _firstRow = new int[_groups.Length + 1];
        _firstBatch = new int[_groups.Length + 1];
        for (int g = 0; g < _groups.Length; g++)
        {
            int size = _groups[g].BatchSize, rows = _groups[g].Rows;
            ArgumentOutOfRangeException.ThrowIfLessThan(size, 1, nameof(groups));
            _firstRow[g + 1] = checked(_firstRow[g] + rows);
            _firstBatch[g + 1] = _firstBatch[g] + (dropLast ? rows / size : (int)((rows + (long)size - 1) / size));
        }
    }

    /// <summary>Batches of an epoch; 0 when every group is smaller than its batch and short batches are dropped.</summary>
    public int BatchesPerEpoch => _firstBatch[^1];

    /// <summary>Rows that some batch of an epoch holds.</summary>
    public long RowsPerEpoch
    {
        get
        {
            long rows = 0;
            for (int g = 0; g < _groups.Length; g++) rows += Math.Min(_groups[g].Rows, (_firstBatch[g + 1] - _firstBatch[g]) * (long)_groups[g].BatchSize);
            return rows;
        }
    }

    /// <summary>The row numbers of a batch, to be read only, and their group.</summary>
    public (ReadOnlyMemory<int> Rows, RowGroup Group) Batch(int epoch, int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        ArgumentOutOfRangeException.ThrowIfNegative(batch);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(batch, BatchesPerEpoch);
        Epoch order = OrderOf(_shuffle ? epoch : 0);
        int number = order.Batches is null ? batch : order.Batches[batch];
        int found = Array.BinarySearch(_firstBatch, number);
        int group = found < 0 ? ~found - 1 : found;
        while (_firstBatch[group + 1] == number) group++;
        int size = _groups[group].BatchSize;
        int start = _firstRow[group] + (number - _firstBatch[group]) * size;
        return (order.Rows.AsMemory(start, Math.Min(size, _firstRow[group + 1] - start)), _groups[group]);
    }

    private Epoch OrderOf(int number)
    {
        lock (_lock)
        {
            if (_last?.Number == number) return _last;
            if (_beforeLast?.Number == number) return _beforeLast;
            _beforeLast = _last;
            return _last = NewEpoch(number);
        }
    }

    private Epoch NewEpoch(int number)
    {
        int[] rows = GC.AllocateUninitializedArray<int>(_firstRow[^1]);
        for (int g = 0; g < _groups.Length; g++)
        {
            int at = _firstRow[g];
            foreach ((int first, int count) in _groups[g].Ranges)
                for (int i = 0; i < count; i++) rows[at++] = first + i;
            if (_shuffle) new CounterRandom(_seed, RandomPurpose.RowOrder, number, g).Shuffle(rows.AsSpan(_firstRow[g].._firstRow[g + 1]));
        }

        if (!_shuffle || _groups.Length == 1) return new Epoch(number, rows, null);
        int[] batches = [.. Enumerable.Range(0, BatchesPerEpoch)];
        new CounterRandom(_seed, RandomPurpose.BatchOrder, number).Shuffle(batches);
        return new Epoch(number, rows, batches);
    }

    /// <summary>The rows of all groups one after another, and the numbers of the batches (null: ascending).</summary>
    private sealed record Epoch(int Number, int[] Rows, int[]? Batches);
}
