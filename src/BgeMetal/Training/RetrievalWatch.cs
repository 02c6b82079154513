using System.Globalization;
using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Ops;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>How the texts of an evaluation become tokens.</summary>
/// <param name="QueryMaxLength">Tokens a query is cut to.</param>
/// <param name="PassageMaxLength">Tokens a passage is cut to.</param>
internal sealed record EvaluationTexts(int QueryMaxLength, int PassageMaxLength)
{
    /// <summary>Put before each query; null for nothing.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>How instruction and query are joined.</summary>
    public InstructionFormat QueryFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>Put before each passage; null for nothing.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>How instruction and passage are joined.</summary>
    public InstructionFormat PassageFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>A query as the model reads it.</summary>
    public string Query(string text) => QueryInstruction is null ? text : QueryFormat.Apply(QueryInstruction, text);

    /// <summary>A passage as the model reads it.</summary>
    public string Passage(string text) => PassageInstruction is null ? text : PassageFormat.Apply(PassageInstruction, text);
}

/// <summary>
/// Measures retrieval with the weights in training, without dropout: corpus and queries embedded, searched exactly. The texts are tokenised once. Each
/// result is a line of eval_log.csv; the model with the best one is saved to best_model.
/// </summary>
internal sealed class RetrievalWatch : ITrainingEvaluation, IDisposable
{
    private const int ChunkTokens = 2048;
    private const int Depth = 100;
    private static readonly int[] s_cutoffs = [1, 5, 10, 100];
    private static readonly string[] s_measures = ["ndcg", "mrr", "recall", "map", "precision", "hit_rate"];
    private readonly TrainableModel _model;
    private readonly SavedForm _form;
    private readonly TrainingOptions _options;
    private readonly EvaluationOptions _evaluation;
    private readonly int[] _cutoffs;
    private readonly RetrievalDataset _data;
    private readonly TokenSequence[] _queries;
    private readonly TokenSequence[] _passages;
    private readonly EncoderRunner _runner;
    private EvaluationLog? _log;

    private RetrievalWatch(TrainableModel model, SavedForm form, EvaluationTexts texts, TrainingOptions options, EvaluationOptions evaluation)
    {
        (_model, _form, _options, _evaluation) = (model, form, options, evaluation);
        _cutoffs = [.. s_cutoffs.Append(Cutoff(evaluation.Metric)).Distinct().Order()];
        if (evaluation.Steps < 0) throw new BgeMetalException("option --eval-steps", $"{evaluation.Steps} is out of range, expected at least 0");
        if (!model.HasTokenizer) throw new BgeMetalException("cannot evaluate", "the model has no tokenizer", model.Directory);
        _data = RetrievalDataset.Load(evaluation.DataDirectory, evaluation.Split);
        if ((long)_data.Corpus.Count * model.Shape.HiddenSize > Array.MaxLength)
            throw new BgeMetalException("cannot evaluate", $"the vectors of {_data.Corpus.Count:N0} passages do not fit: a smaller set will do during training", evaluation.DataDirectory);
        _queries = Tokenize([.. _data.Queries.Select(query => texts.Query(query.Text))], texts.QueryMaxLength);
        _passages = Tokenize([.. _data.Corpus.Select(passage => texts.Passage(passage.FullText))], texts.PassageMaxLength);
        _runner = new EncoderRunner(model.Device, model.Positions, ChunkTokens, Forward);
    }

    /// <summary>Reads and tokenises the data; null when the options ask for no evaluation.</summary>
    /// <exception cref="BgeMetalException">The data cannot be read, or an option is out of range.</exception>
    public static RetrievalWatch? Open(TrainableModel model, SavedForm form, EvaluationTexts texts, TrainingOptions options) =>
        options.Evaluation is { } evaluation ? new RetrievalWatch(model, form, texts, options, evaluation) : null;

    /// <inheritdoc/>
    public void Begin(long step, double epoch, CancellationToken cancellation)
    {
        _log = new EvaluationLog(_options.OutputDirectory, _evaluation.Metric, step);
        if (_log.LastStep < step && IsDue(step)) Evaluate(step, epoch, cancellation);
    }

    /// <inheritdoc/>
    public void After(long step, double epoch, bool isLast, CancellationToken cancellation)
    {
        if (isLast || IsDue(step)) Evaluate(step, epoch, cancellation);
    }

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
        SearchHit[][] hits = index.SearchBatch(queries, Math.Max(Depth, _cutoffs[^1]), cancellation);
        RetrievalRun run = new();
        for (int i = 0; i < hits.Length; i++) run.Add(_data.Queries[i].Id, hits[i]);
        return RetrievalMetrics.Evaluate(_data.Judgements, run, _cutoffs);
    }

    private static int Cutoff(string metric)
    {
        string[] parts = metric.Split('@');
        if (metric == "map") return s_cutoffs[0];
        if (parts.Length == 2 && s_measures.Contains(parts[0]) && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int cutoff) && cutoff is >= 1 and <= 1000) return cutoff;
        throw new BgeMetalException("option --metric-for-best-model", $"\"{metric}\" is unknown, expected map or one of {string.Join(", ", s_measures)} with a cut-off up to 1000, such as ndcg@10");
    }

    private bool IsDue(long step) => step == 0 || (_evaluation.Steps > 0 && step % _evaluation.Steps == 0);

    private void Evaluate(long step, double epoch, CancellationToken cancellation)
    {
        if (_log!.Append(step, epoch, Measure(cancellation))) _model.Save(Path.Combine(_options.OutputDirectory, "best_model"), _form, overwrite: true);
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
