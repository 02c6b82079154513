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
/// with a teacher's scores the cross-entropy with their softmax is added (Hinton et al. 2015, at temperature 1).
/// </summary>
internal sealed class RerankingObjective : ITrainingObjective<RerankingBatch>, IDisposable
{
    private readonly TrainableModel _model;
    private readonly ClassificationHead _head;
    private readonly Arena _arena;
    private readonly PackedBatch _batch;

    /// <summary>The loss of a model with a classification head of one label.</summary>
    public RerankingObjective(TrainableModel model)
    {
        _model = model;
        _head = new ClassificationHead(model.Parameters, Reranker.HeadNames(model.Config), (float)model.Config.ClassifierDropout);
        _arena = new Arena(model.Device);
        _batch = new PackedBatch(model.Positions);
    }

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes;

    /// <inheritdoc/>
    public double Backpropagate(RerankingBatch batch, float scale, ulong seed)
    {
        using Tape tape = Tape.Record(_arena, _model.Parameters, seed);
        Tensor scores = tape.Regroup(Logits(tape, batch.Pairs), batch.GroupSize);
        Tensor loss = tape.FirstColumnCrossEntropy(scores);
        if (batch.TeacherScores is { } teacher) loss = tape.WeightedSum([loss, tape.SoftTargetCrossEntropy(scores, teacher, batch.GroupSize)], [1, 1]);
        double value = loss.Value;
        if (double.IsFinite(value)) tape.Backward(loss, scale);
        return value;
    }

    /// <inheritdoc/>
    public long Tokens(RerankingBatch batch) => batch.Pairs.Sum(pair => (long)pair.Length);

    /// <inheritdoc/>
    public string Describe(RerankingBatch batch) => string.Join(", ", batch.Places);

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    /// <summary>Pairs -> logits [pairs, 1].</summary>
    private Tensor Logits(Tape tape, IReadOnlyList<TokenSequence> pairs)
    {
        _batch.Clear();
        foreach (TokenSequence pair in pairs) _batch.Add(pair);
        return _head.Forward(tape, _model.Encoder.ForwardCls(tape, _batch.Upload(tape.Arena)));
    }
}
