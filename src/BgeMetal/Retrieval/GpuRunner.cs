using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>
/// Takes chunks through a model on a GPU: while it works on one, the host packs the next and reads the one before. A small batch, whose launches would take the host
/// longer than the GPU, is padded to a bucket and replayed as a graph from its second time on. Padding rows are computed and belong to no sequence: every operation of a forward
/// pass computes a row from that row alone, but attention and pooling, which look only at the rows of a sequence. So they change no result.
/// </summary>
internal sealed class GpuRunner : IDisposable
{
    /// <summary>
    /// Batches with tokens * D^2 up to this are small: about where a layer's launches cost the host (8 of 3 us) as much as its products the GPU (24 D^2 FLOP a token at 600 TFLOP/s). 3640
    /// tokens of bge-small-en, 910 of bge-base, 512 of bge-large.
    /// </summary>
    private const long SmallWork = 1L << 29;

    private const int MostGraphs = 64;

    private readonly Device _device;
    private readonly Arena _arena;
    private readonly SequenceModel _model;
    private readonly ParameterStore _parameters;
    private readonly DevicePass[] _passes;
    private readonly PackedBatch _batch;
    private readonly BatchGraphs _graphs;
    private readonly long _mostTokens;

    /// <summary>A runner over an arena that the caller owns and uses for nothing else.</summary>
    public GpuRunner(Device device, Arena arena, ParameterStore parameters, PositionRule positions, SequenceModel model)
    {
        (_device, _arena, _parameters, _model) = (device, arena, parameters, model);
        _passes = [new DevicePass(device), new DevicePass(device)];
        _batch = new PackedBatch(positions);
        _graphs = new BatchGraphs(device, MostGraphs, Enqueue);
        long hiddenSize = parameters[BertEmbeddings.WordTable].Columns;
        _mostTokens = SmallWork / (hiddenSize * hiddenSize);
    }

    /// <summary>Graphs held.</summary>
    public int Graphs => _graphs.Count;

    /// <summary>Whether a batch of so many tokens is padded to a bucket and may become a graph.</summary>
    public bool IsSmall(int tokens) => tokens <= _mostTokens;

    /// <summary>Runs all chunks; <paramref name="deliver"/> is given each chunk's rows when they have arrived, in the order of the chunks.</summary>
    /// <param name="chunks">How many.</param>
    /// <param name="members">The sequences of a chunk.</param>
    /// <param name="columns">Columns of a row that are asked for.</param>
    /// <param name="deliver">Takes a chunk and where its rows are.</param>
    /// <param name="cancellation">Stops between chunks; rows that are under way are not delivered.</param>
    public void Run(int chunks, Func<int, IEnumerable<TokenSequence>> members, int columns, Action<int, DevicePass> deliver, CancellationToken cancellation)
    {
        try
        {
            for (int chunk = 0; chunk < chunks; chunk++)
            {
                cancellation.ThrowIfCancellationRequested();
                Deliver(chunk - _passes.Length);
                _batch.Clear();
                foreach (TokenSequence sequence in members(chunk)) _batch.Add(sequence);
                Start(_passes[chunk % _passes.Length], columns);
            }
            for (int chunk = chunks - _passes.Length; chunk < chunks; chunk++) Deliver(chunk);
        }
        catch
        {
            Abandon();
            throw;
        }

        void Deliver(int chunk)
        {
            if (chunk < 0) return;
            DevicePass pass = _passes[chunk % _passes.Length];
            pass.Wait();
            deliver(chunk, pass);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Abandon();
        _graphs.Dispose();
        foreach (DevicePass pass in _passes) pass.Dispose();
    }

    private void Start(DevicePass pass, int columns)
    {
        int sequences = _batch.Sequences;
        bool small = IsSmall(_batch.TotalTokens);
        BatchBucket bucket = small ? BatchBucket.Of(_batch.TotalTokens, sequences, _batch.MaxSeqlen) : new(new PackedLayout(_batch.TotalTokens, sequences), _batch.MaxSeqlen);
        _batch.Write(bucket.Layout, pass.Input(bucket.Layout.Count));
        // Launches inside of a graph have no time of their own.
        if (small && !_device.IsProfiled && _graphs.Find(bucket, _parameters.Address) is { } graph)
        {
            pass.Upload(graph.Numbers);
            graph.Graph.Replay();
            pass.Download(Asked(graph.Rows));
            return;
        }
        using Tape tape = Tape.Inference(_arena);
        Tensor numbers = _arena.Integers(bucket.Layout.Count);
        pass.Upload(numbers);
        pass.Download(Asked(_model(tape, bucket.Layout.View(numbers, bucket.MaxSeqlen))));

        Tensor Asked(Tensor rows) => rows.RowRange(0, sequences).ColumnRange(0, columns);
    }

    /// <summary>What a graph records: a pass over numbers that are there already, at the arena's first address.</summary>
    private (Tensor Numbers, Tensor Rows) Enqueue(BatchBucket bucket)
    {
        using Tape tape = Tape.Inference(_arena);
        Tensor numbers = _arena.Integers(bucket.Layout.Count);
        return (numbers, _model(tape, bucket.Layout.View(numbers, bucket.MaxSeqlen)));
    }

    /// <summary>Waits for what is under way, so that its memory may be used again; that it failed was said before.</summary>
    private void Abandon()
    {
        foreach (DevicePass pass in _passes.Where(pass => pass.IsUnderWay))
        {
            try
            {
                pass.Wait();
            }
            catch (Exception e) when (Device.IsFailure(e))
            {
                continue;
            }
        }
    }
}
