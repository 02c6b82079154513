using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Ops;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training.Objectives;

/// <summary>
/// FlagEmbedding's CrossEncoderModel: the logits of a query's pairs compete, the positive's should win (mean cross-entropy over groups, no temperature);
/// with a teacher's scores the cross-entropy with their softmax is added (Hinton et al. 2015, at temperature 1). Groups do not meet in this loss, so with a
/// sub-batch size they go through the model a few at a time, forward and back, and their gradients add up: the memory of the few, at no further cost, where the
/// contrastive loss has to compute everything twice. A dropout mask is drawn by a pair's place in the whole batch, so the result is that of the whole batch, up to the
/// rounding of sums.
/// </summary>
internal sealed class RerankingObjective : ITrainingObjective<RerankingBatch>, IDisposable
{
    private readonly TrainableModel _model;
    private readonly int _subBatchSize;
    private readonly ClassificationHead _head;
    private readonly Arena _arena;
    private readonly PackedBatch _batch;

    /// <summary>The loss of a model with a classification head of one label.</summary>
    /// <param name="model">What is trained.</param>
    /// <param name="subBatchSize">Pairs taken through the model at a time, in whole groups and at least one; 0 for the whole batch.</param>
    public RerankingObjective(TrainableModel model, int subBatchSize = 0)
    {
        (_model, _subBatchSize) = (model, subBatchSize);
        _head = new ClassificationHead(model.Parameters, Reranker.HeadNames(model.Config), (float)model.Config.ClassifierDropout);
        _arena = new Arena(model.Device);
        _batch = new PackedBatch(model.Positions);
    }

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes;

    /// <summary>The most bytes of activations in use at one time.</summary>
    public long PeakBytes => _arena.PeakBytes;

    /// <inheritdoc/>
    public Device Device => _model.Device;

    /// <inheritdoc/>
    public void Backpropagate(RerankingBatch batch, Tensor gradient, ulong seed, Tensor loss)
    {
        ForEachPart(batch, seed, null, (tape, part, logits) =>
        {
            Tensor scores = tape.Regroup(logits, batch.GroupSize);
            Tensor own = tape.FirstColumnCrossEntropy(scores);
            if (batch.TeacherScores is { } all)
            {
                float[] teacher = part.Count == batch.Pairs.Count ? all : all[part.First..(part.First + part.Count)];
                own = tape.WeightedSum([own, tape.SoftTargetCrossEntropy(scores, teacher, batch.GroupSize)], [1, 1]);
            }
            if (part.Count < batch.Pairs.Count)
            {
                // A part's share, added to what the parts before it have left.
                float share = (float)((double)part.Count / batch.Pairs.Count);
                own = part.First == 0 ? tape.WeightedSum([own], [share]) : tape.WeightedSum([own, loss], [share, 1]);
            }
            TrainingObjectives.Finish(tape, own, gradient, loss);
            return Device.Kind == DeviceKind.Cuda || float.IsFinite(loss.Value);
        });
    }

    /// <inheritdoc/>
    public string? FirstNotFinite(RerankingBatch batch, ulong seed)
    {
        LayerProbe probe = new();
        ForEachPart(batch, seed, probe.Look, (_, _, _) => probe.FirstNotFinite is null);
        return probe.FirstNotFinite;
    }

    /// <inheritdoc/>
    public long Tokens(RerankingBatch batch) => batch.Pairs.Sum(pair => (long)pair.Length);

    /// <inheritdoc/>
    public string Describe(RerankingBatch batch) => string.Join(", ", batch.Places);

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    /// <summary>Takes the batch through the model in parts of whole groups, each on a tape of its own, until <paramref name="use"/> returns false.</summary>
    private void ForEachPart(RerankingBatch batch, ulong seed, Action<string, Tensor>? probe, Func<Tape, (int First, int Count), Tensor, bool> use)
    {
        int pairs = batch.Pairs.Count, most = _subBatchSize > 0 ? Math.Max(1, _subBatchSize / batch.GroupSize) * batch.GroupSize : pairs, firstToken = 0;
        for (int first = 0; first < pairs; first += most)
        {
            int count = Math.Min(most, pairs - first);
            using Tape tape = Tape.Record(_arena, _model.Parameters, seed, probe);
            Tensor logits = Logits(tape, batch.Pairs, first, count, firstToken);
            firstToken += _batch.TotalTokens;
            if (!use(tape, (first, count), logits)) return;
        }
    }

    /// <summary>Pairs -> logits [count, 1].</summary>
    private Tensor Logits(Tape tape, IReadOnlyList<TokenSequence> pairs, int first, int count, int firstToken)
    {
        _batch.Clear();
        for (int i = first; i < first + count; i++) _batch.Add(pairs[i]);
        PackedTensors packed = _batch.Upload(tape.Arena) with { FirstToken = firstToken, FirstSequence = first };
        return _head.Forward(tape, _model.Encoder.ForwardCls(tape, packed), first);
    }
}
