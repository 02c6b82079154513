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
/// gradient. A dropout mask is drawn by a text's place in the whole batch, so the result is that of the whole batch, up to the rounding of sums.
/// </summary>
/// <param name="model">What is trained.</param>
/// <param name="pooling">How token vectors become one vector.</param>
/// <param name="subBatchSize">Texts a chunk; 0 for the whole batch.</param>
/// <param name="loss">The loss [1, 1] of queries [B, D] and passages [B*G, D], both pooled and not yet normalised.</param>
internal sealed class ContrastiveObjective(TrainableModel model, PoolingMode pooling, int subBatchSize, Func<Tape, Tensor, Tensor, ContrastiveBatch, Tensor> loss)
    : ITrainingObjective<ContrastiveBatch>, IDisposable
{
    private readonly Arena _arena = new(model.Device);
    private readonly Arena _representations = new(model.Device);
    private readonly PackedBatch _batch = new(model.Positions);

    /// <summary>With FlagEmbedding's loss.</summary>
    public ContrastiveObjective(TrainableModel model, FinetuneOptions options, PoolingMode pooling)
        : this(model, pooling, options.SubBatchSize, (tape, queries, passages, batch) => ContrastiveLoss.Compute(tape, queries, passages, batch, options))
    {
    }

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes + _representations.ReservedBytes;

    /// <summary>The most bytes of activations in use at one time.</summary>
    public long PeakBytes => _arena.PeakBytes + _representations.PeakBytes;

    /// <inheritdoc/>
    public Device Device => model.Device;

    /// <inheritdoc/>
    public void Backpropagate(ContrastiveBatch batch, Tensor gradient, ulong seed, Tensor loss)
    {
        int chunk = subBatchSize > 0 ? subBatchSize : int.MaxValue;
        if (batch.Queries.Count <= chunk && batch.Passages.Count <= chunk) WholeBatch(batch, gradient, seed, loss);
        else CachedGradient(batch, gradient, seed, chunk, loss);
    }

    /// <inheritdoc/>
    public string? FirstNotFinite(ContrastiveBatch batch, ulong seed)
    {
        LayerProbe probe = new();
        int chunk = subBatchSize > 0 ? subBatchSize : int.MaxValue;
        ForEachChunk(batch.Queries, chunk, QuerySeed(seed), (_, _, _, _) => { }, probe.Look);
        ForEachChunk(batch.Passages, chunk, PassageSeed(seed), (_, _, _, _) => { }, probe.Look);
        return probe.FirstNotFinite;
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

    private static ulong QuerySeed(ulong seed) => SplitMix64.Mix(seed ^ (1UL << 62));

    private static ulong PassageSeed(ulong seed) => SplitMix64.Mix(seed ^ (2UL << 62));

    private void WholeBatch(ContrastiveBatch batch, Tensor gradient, ulong seed, Tensor kept)
    {
        using Tape tape = Tape.Record(_arena, model.Parameters, QuerySeed(seed));
        Tensor queries = Pool(tape, batch.Queries, 0, batch.Queries.Count, 0);
        tape.DrawFrom(PassageSeed(seed));
        Tensor passages = Pool(tape, batch.Passages, 0, batch.Passages.Count, 0);
        TrainingObjectives.Finish(tape, loss(tape, queries, passages, batch), gradient, kept);
    }

    private void CachedGradient(ContrastiveBatch batch, Tensor gradient, ulong seed, int chunk, Tensor kept)
    {
        using Tape tape = Tape.Record(_representations, model.Parameters, seed);
        Tensor queries = tape.Arena.Activation(batch.Queries.Count, model.Shape.HiddenSize);
        Tensor passages = tape.Arena.Activation(batch.Passages.Count, model.Shape.HiddenSize);
        ForEachChunk(batch.Queries, chunk, QuerySeed(seed), (_, vectors, start, count) => Copy(vectors, queries.RowRange(start, count)));
        ForEachChunk(batch.Passages, chunk, PassageSeed(seed), (_, vectors, start, count) => Copy(vectors, passages.RowRange(start, count)));
        TrainingObjectives.Finish(tape, loss(tape, queries, passages, batch), gradient, kept);
        if (Device.Kind == DeviceKind.Cpu && !float.IsFinite(kept.Value)) return;
        Tensor queryGradients = tape.Grad(queries).Buffer, passageGradients = tape.Grad(passages).Buffer;
        ForEachChunk(batch.Queries, chunk, QuerySeed(seed), (part, vectors, start, count) => part.Backward(vectors, queryGradients.RowRange(start, count)));
        ForEachChunk(batch.Passages, chunk, PassageSeed(seed), (part, vectors, start, count) => part.Backward(vectors, passageGradients.RowRange(start, count)));
    }

    /// <summary>Takes the texts through the encoder, so many at a time, each time on a tape of its own.</summary>
    private void ForEachChunk(IReadOnlyList<TokenSequence> texts, int chunk, ulong seed, Action<Tape, Tensor, int, int> use, Action<string, Tensor>? probe = null)
    {
        int firstToken = 0;
        for (int start = 0; start < texts.Count; start += Math.Min(chunk, texts.Count))
        {
            int count = Math.Min(chunk, texts.Count - start);
            using Tape tape = Tape.Record(_arena, model.Parameters, seed, probe);
            Tensor vectors = Pool(tape, texts, start, count, firstToken);
            firstToken += _batch.TotalTokens;
            use(tape, vectors, start, count);
        }
    }

    /// <summary>Texts to pooled vectors [count, D], not yet normalised.</summary>
    private Tensor Pool(Tape tape, IReadOnlyList<TokenSequence> texts, int start, int count, int firstToken)
    {
        _batch.Clear();
        for (int i = start; i < start + count; i++) _batch.Add(texts[i]);
        PackedTensors packed = _batch.Upload(tape.Arena) with { FirstToken = firstToken, FirstSequence = start };
        return pooling == PoolingMode.Cls
            ? model.Encoder.ForwardCls(tape, packed)
            : tape.MeanPooling(model.Encoder.Forward(tape, packed), packed.CuSeqlens);
    }

    private static void Copy(Tensor source, Tensor destination)
    {
        destination.CopyRows(source);
    }
}
