using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Ops;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// Measures retrieval with the weights in training, without dropout: corpus and queries embedded, searched exactly. The texts are tokenised once.
/// </summary>
internal sealed class RetrievalWatch : ITrainingEvaluation, IDisposable
{
    private const int ChunkTokens = 2048;
    private const int Depth = 100;
    private readonly TrainableModel _model;
    private readonly SavedForm _form;
    private readonly TrainingOptions _options;
    private readonly EvaluationSchedule _schedule;
    private readonly RetrievalDataset _data;
    private readonly TokenSequence[] _queries;
    private readonly TokenSequence[] _passages;
    private readonly EncoderRunner _runner;

    private RetrievalWatch(TrainableModel model, SavedForm form, EvaluationTexts texts, TrainingOptions options, EvaluationOptions evaluation)
    {
        (_model, _form, _options) = (model, form, options);
        _schedule = new EvaluationSchedule(model, form, options, evaluation);
        _data = RetrievalDataset.Load(evaluation.DataDirectory, evaluation.Split);
        if ((long)_data.Corpus.Count * model.Shape.HiddenSize > Array.MaxLength)
            throw new BgeMetalException("cannot evaluate", $"the vectors of {_data.Corpus.Count:N0} passages do not fit: a smaller set will do during training", evaluation.DataDirectory);
        _queries = Tokenize([.. _data.Queries.Select(query => texts.Query(query.Text))], texts.QueryMaxLength);
        _passages = Tokenize([.. _data.Corpus.Select(passage => texts.Passage(passage.FullText))], texts.PassageMaxLength);
        _runner = new EncoderRunner(model.Device, model.Parameters, model.Positions, ChunkTokens, Forward);
    }

    /// <summary>Reads and tokenises the data; null when the options ask for no evaluation.</summary>
    /// <exception cref="BgeMetalException">The data cannot be read, or an option is out of range.</exception>
    public static RetrievalWatch? Open(TrainableModel model, SavedForm form, EvaluationTexts texts, TrainingOptions options) =>
        options.Evaluation is { } evaluation ? new RetrievalWatch(model, form, texts, options, evaluation) : null;

    /// <inheritdoc/>
    public void Begin(long step, double epoch, CancellationToken cancellation) => _schedule.Begin(step, epoch, () => Measure(cancellation));

    /// <inheritdoc/>
    public void After(long step, double epoch, bool isLast, CancellationToken cancellation) => _schedule.After(step, epoch, isLast, () => Measure(cancellation));

    /// <inheritdoc/>
    public void Dispose() => _runner.Dispose();

    /// <summary>The measures with the weights as they are now.</summary>
    internal RetrievalReport Measure(CancellationToken cancellation)
    {
        int dimensions = _model.Shape.HiddenSize;
        float[] passages = new float[_passages.Length * dimensions], queries = new float[checked(_queries.Length * dimensions)];
        _runner.Run(_passages, passages, dimensions, null, cancellation);
        _runner.Run(_queries, queries, dimensions, null, cancellation);
        using FlatIndex index = FlatIndex.FromVectors(passages, dimensions, [.. _data.Corpus.Select(passage => passage.Id)], null, _options.Compute.EffectiveThreads);
        SearchHit[][] hits = index.SearchBatch(queries, Math.Max(Depth, _schedule.Cutoffs[^1]), cancellation);
        RetrievalRun run = new();
        for (int i = 0; i < hits.Length; i++) run.Add(_data.Queries[i].Id, hits[i]);
        return RetrievalMetrics.Evaluate(_data.Judgements, run, _schedule.Cutoffs);
    }

    private TokenSequence[] Tokenize(string[] texts, int maxLength)
    {
        int limit = Math.Min(maxLength, _model.MaxLength);
        Text.ModelTokenizer tokenizer = _model.Tokenizer;
        int[][] ids = [.. texts.AsParallel().AsOrdered().WithDegreeOfParallelism(Math.Min(_options.Compute.EffectiveThreads, 512)).Select(text => tokenizer.Encode(text, maxLength: limit).InputIds)];
        foreach (int id in ids.SelectMany(list => list))
            if ((uint)id >= (uint)_model.Config.VocabSize)
                throw new BgeMetalException("cannot evaluate", $"the tokenizer gives id {id}, the model has {_model.Config.VocabSize} word vectors", _model.Directory);
        return [.. ids.Select(list => new TokenSequence(list))];
    }

    private Tensor Forward(Tape tape, PackedTensors batch)
    {
        Tensor pooled = _form.Pooling == PoolingMode.Cls ? _model.Encoder.ForwardCls(tape, batch) : tape.MeanPooling(_model.Encoder.Forward(tape, batch), batch.CuSeqlens);
        return _form.Normalize ? tape.NormalizeRows(pooled) : pooled;
    }
}
