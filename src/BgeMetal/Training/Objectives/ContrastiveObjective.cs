using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training.Objectives;

/// <summary>
/// Contrastive learning of one encoder for queries and passages, as FlagEmbedding's BiEncoderModel (legacy) and BiEncoderOnlyEmbedderModel (current)
/// compute it. With a sub-batch size the gradient is cached (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
/// Setup"): vectors chunk by chunk without keeping activations, the loss and its gradient for all vectors, then each chunk again with its part of the
/// gradient. Dropout masks are drawn from the same seeds both times, so the result is that of the whole batch.
/// </summary>
internal sealed class ContrastiveObjective(TrainableModel model, FinetuneOptions options, PoolingMode pooling)
    : ITrainingObjective<ContrastiveBatch>, IDisposable
{
    private readonly Arena _arena = new(model.Device);
    private readonly Arena _representations = new(model.Device);
    private readonly PackedBatch _batch = new(model.Positions);

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes + _representations.ReservedBytes;

    /// <inheritdoc/>
    public double Backpropagate(ContrastiveBatch batch, float scale, ulong seed)
    {
        int chunk = options.SubBatchSize > 0 ? options.SubBatchSize : int.MaxValue;
        return batch.Queries.Count <= chunk && batch.Passages.Count <= chunk
            ? WholeBatch(batch, scale, seed)
            : CachedGradient(batch, scale, seed, chunk);
    }

    /// <inheritdoc/>
    public long Tokens(ContrastiveBatch batch) => batch.Tokens;

    /// <inheritdoc/>
    public string Describe(ContrastiveBatch batch) => string.Join(", ", batch.Places);

    /// <inheritdoc/>
    public void Dispose()
    {
        _arena.Dispose();
        _representations.Dispose();
    }

    private double WholeBatch(ContrastiveBatch batch, float scale, ulong seed)
    {
        using Tape tape = Tape.Record(_arena, model.Parameters, seed);
        Tensor queries = Pool(tape, batch.Queries), passages = Pool(tape, batch.Passages);
        Tensor loss = ContrastiveLoss.Compute(tape, queries, passages, batch, options);
        double value = loss.RowSpan(0)[0];
        if (double.IsFinite(value)) tape.Backward(loss, scale);
        return value;
    }

    private double CachedGradient(ContrastiveBatch batch, float scale, ulong seed, int chunk)
    {
        using Tape tape = Tape.Record(_representations, model.Parameters, seed);
        Tensor queries = tape.Arena.Activation(batch.Queries.Count, model.Shape.HiddenSize);
        Tensor passages = tape.Arena.Activation(batch.Passages.Count, model.Shape.HiddenSize);
        ForEachChunk(batch.Queries, queries, chunk, seed, 1, (chunkTape, vectors, rows) => Copy(vectors, rows));
        ForEachChunk(batch.Passages, passages, chunk, seed, 2, (chunkTape, vectors, rows) => Copy(vectors, rows));
        Tensor loss = ContrastiveLoss.Compute(tape, queries, passages, batch, options);
        double value = loss.RowSpan(0)[0];
        if (!double.IsFinite(value)) return value;
        tape.Backward(loss, scale);
        Tensor queryGradients = tape.Grad(queries).Buffer, passageGradients = tape.Grad(passages).Buffer;
        ForEachChunk(batch.Queries, queryGradients, chunk, seed, 1, (chunkTape, vectors, rows) => chunkTape.Backward(vectors, rows));
        ForEachChunk(batch.Passages, passageGradients, chunk, seed, 2, (chunkTape, vectors, rows) => chunkTape.Backward(vectors, rows));
        return value;
    }

    private void ForEachChunk(IReadOnlyList<TokenSequence> texts, Tensor rows, int chunk, ulong seed, ulong side, Action<Tape, Tensor, Tensor> use)
    {
        for (int start = 0; start < texts.Count; start += chunk)
        {
            int count = Math.Min(chunk, texts.Count - start);
            using Tape tape = Tape.Record(_arena, model.Parameters, SplitMix64.Mix(seed ^ (side << 62) ^ (ulong)start));
            Tensor vectors = Pool(tape, [.. texts.Skip(start).Take(count)]);
            use(tape, vectors, rows.RowRange(start, count));
        }
    }

    /// <summary>Texts to pooled vectors [texts, D], not yet normalised.</summary>
    private Tensor Pool(Tape tape, IReadOnlyList<TokenSequence> texts)
    {
        _batch.Clear();
        foreach (TokenSequence text in texts) _batch.Add(text);
        PackedTensors packed = _batch.Upload(tape.Arena);
        return pooling == PoolingMode.Cls
            ? model.Encoder.ForwardCls(tape, packed)
            : tape.MeanPooling(model.Encoder.Forward(tape, packed), packed.CuSeqlens);
    }

    private static void Copy(Tensor source, Tensor destination)
    {
        for (int row = 0; row < source.Rows; row++) source.RowSpan(row).CopyTo(destination.RowSpan(row));
    }
}
