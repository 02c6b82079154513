using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>
/// The sizes that a graph is captured for. A batch is padded to its bucket whether a graph is there or not, so that a graph never shows in a result.
/// </summary>
/// <param name="Layout">Tokens and sequences, padding included.</param>
/// <param name="MaxSeqlen">Tokens of the longest sequence, rounded up.</param>
internal readonly record struct BatchBucket(PackedLayout Layout, int MaxSeqlen)
{
    // Attention's grid counts tiles of so many rows: within one tile the length of the longest sequence changes no launch.
    private const int AttentionRows = 64;
    private const int LeastTokens = 16;

    /// <summary>
    /// The bucket of a batch: sequences rounded up to a power of two, tokens to a sixteenth of theirs, so that padding is at most a sixteenth of a batch that is not tiny. A sequence
    /// without a token begins behind the last one, where CLS pooling must find a row, so that there is one row of padding at least where there is such a sequence.
    /// </summary>
    public static BatchBucket Of(int tokens, int sequences, int maxSeqlen)
    {
        int manySequences = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)sequences);
        int rows = manySequences > sequences ? tokens + 1 : tokens;
        int step = Math.Max(LeastTokens, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)rows) / 16);
        return new(new PackedLayout(RoundUp(rows, step), manySequences), RoundUp(maxSeqlen, AttentionRows));
    }

    private static int RoundUp(int value, int step) => (value + step - 1) / step * step;
}

/// <summary>A captured pass with the addresses that it reads and writes.</summary>
/// <param name="Graph">Everything between the copy in and the copy out.</param>
/// <param name="Numbers">Where the batch's numbers go.</param>
/// <param name="Rows">Where the result is.</param>
internal sealed record BatchGraph(DeviceGraph Graph, Tensor Numbers, Tensor Rows);

/// <summary>
/// The graphs of one model's passes, one a bucket, at most so many: the one that was used least recently makes room. A bucket's first batch runs without a graph, which loads its
/// kernels and takes its memory; the second is worth one. A graph holds addresses: when the weights or the workspace lie elsewhere than before, all are dropped.
/// </summary>
/// <param name="device">Where they run.</param>
/// <param name="capacity">The most buckets that are remembered.</param>
/// <param name="pass">Enqueues a pass of a bucket and returns the addresses; allocates nothing the second time.</param>
internal sealed class BatchGraphs(Device device, int capacity, Func<BatchBucket, (Tensor Numbers, Tensor Rows)> pass) : IDisposable
{
    private readonly Dictionary<BatchBucket, LinkedListNode<(BatchBucket Bucket, BatchGraph? Graph)>> _entries = [];
    private readonly LinkedList<(BatchBucket Bucket, BatchGraph? Graph)> _byUse = [];
    private (nint Workspace, nint Weights) _addresses;

    /// <summary>Graphs held.</summary>
    public int Count => _byUse.Count(entry => entry.Graph is not null);

    /// <summary>Whether the bucket has a graph.</summary>
    public bool Has(BatchBucket bucket) => _entries.TryGetValue(bucket, out LinkedListNode<(BatchBucket Bucket, BatchGraph? Graph)>? node) && node.Value.Graph is not null;

    /// <summary>The bucket's graph, captured now where the bucket was seen before; null where it is new. The weights lie at <paramref name="weights"/>.</summary>
    public BatchGraph? Find(BatchBucket bucket, nint weights)
    {
        if (_addresses != (device.WorkspaceAddress, weights)) Clear();
        _addresses = (device.WorkspaceAddress, weights);
        if (!_entries.TryGetValue(bucket, out LinkedListNode<(BatchBucket Bucket, BatchGraph? Graph)>? node))
        {
            if (_byUse.Count == capacity) Remove(_byUse.Last!);
            _entries.Add(bucket, _byUse.AddFirst((bucket, null)));
            return null;
        }
        _byUse.Remove(node);
        _byUse.AddFirst(node);
        node.Value = (bucket, node.Value.Graph ?? Capture(bucket));
        return node.Value.Graph;
    }

    /// <inheritdoc/>
    public void Dispose() => Clear();

    private BatchGraph Capture(BatchBucket bucket)
    {
        (Tensor Numbers, Tensor Rows) addresses = default;
        DeviceGraph graph = device.Capture(() => addresses = pass(bucket));
        return new BatchGraph(graph, addresses.Numbers, addresses.Rows);
    }

    private void Clear()
    {
        while (_byUse.Last is { } node) Remove(node);
    }

    private void Remove(LinkedListNode<(BatchBucket Bucket, BatchGraph? Graph)> node)
    {
        _byUse.Remove(node);
        _entries.Remove(node.Value.Bucket);
        node.Value.Graph?.Graph.Dispose();
    }
}
