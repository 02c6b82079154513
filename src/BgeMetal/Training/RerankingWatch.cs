using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Retrieval;

namespace BgeMetal.Training;

/// <summary>
/// Measures a cross-encoder with the weights in training, without dropout: it reorders the best passages of a run that some first stage wrote, and what it does not
/// see is dropped, as in <c>eval --reranker</c>. The pairs are joined once.
/// </summary>
internal sealed class RerankingWatch : ITrainingEvaluation, IDisposable
{
    private const int ChunkTokens = 2048;
    private readonly EvaluationSchedule _schedule;
    private readonly Judgements _judgements;
    private readonly (string Query, string[] Passages)[] _lists;
    private readonly TokenSequence[] _pairs;
    private readonly EncoderRunner _runner;

    private RerankingWatch(TrainableModel model, SavedForm form, PairJoiner joiner, EvaluationTexts texts, TrainingOptions options, EvaluationOptions evaluation, string candidates)
    {
        _schedule = new EvaluationSchedule(model, form, options, evaluation);
        if (evaluation.Candidates < 1) throw new BgeMetalException("option --eval-top-k", $"{evaluation.Candidates} is out of range, expected at least 1");
        RetrievalDataset data = RetrievalDataset.Load(evaluation.DataDirectory, evaluation.Split);
        RetrievalRun run = RetrievalRun.ReadTrec(candidates);
        Dictionary<string, RetrievalPassage> corpus = data.Corpus.ToDictionary(passage => passage.Id, StringComparer.Ordinal);
        _judgements = data.Judgements;
        _lists = [.. data.Queries.Select(query => (query.Id, run.Of(query.Id).Take(evaluation.Candidates).Select(passage => passage.Id).ToArray()))];
        if (_lists.All(list => list.Passages.Length == 0)) throw new BgeMetalException("cannot evaluate", "none of the judged queries has a candidate", candidates);
        (string Query, string Passage)[] pairs = [.. data.Queries.Zip(_lists).SelectMany(both => both.Second.Passages.Select(id =>
            (texts.Query(both.First.Text), texts.Passage(PassageOf(corpus, id, candidates)))))];
        _ = model.Tokenizer;
        _pairs = [.. pairs.AsParallel().AsOrdered().WithDegreeOfParallelism(Math.Min(options.Compute.EffectiveThreads, 512)).Select(pair => joiner.Join(pair.Query, pair.Passage))];
        ClassificationHead head = new(model.Parameters, Reranker.HeadNames(model.Config));
        _runner = new EncoderRunner(model.Device, model.Parameters, model.Positions, ChunkTokens, (tape, batch) => head.Forward(tape, model.Encoder.ForwardCls(tape, batch)));
    }

    /// <summary>Reads the data and joins the pairs; null when the options ask for no evaluation.</summary>
    /// <exception cref="BgeMetalException">The data or the run cannot be read, or an option is out of range.</exception>
    public static RerankingWatch? Open(TrainableModel model, SavedForm form, PairJoiner? joiner, EvaluationTexts texts, TrainingOptions options)
    {
        if (options.Evaluation is not { } evaluation) return null;
        if (evaluation.CandidateFile is not { } candidates)
            throw new BgeMetalException("option --eval-data", "a reranker is measured by reordering hits: --eval-candidates FILE has to name them, as eval --run writes them");
        if (joiner is null) throw new BgeMetalException("cannot evaluate", "the model has no tokenizer", model.Directory);
        return new RerankingWatch(model, form, joiner, texts, options, evaluation, candidates);
    }

    /// <inheritdoc/>
    public void Begin(long step, double epoch, CancellationToken cancellation) => _schedule.Begin(step, epoch, () => Measure(cancellation));

    /// <inheritdoc/>
    public void After(long step, double epoch, bool isLast, CancellationToken cancellation) => _schedule.After(step, epoch, isLast, () => Measure(cancellation));

    /// <inheritdoc/>
    public void Dispose() => _runner.Dispose();

    private static string PassageOf(Dictionary<string, RetrievalPassage> corpus, string id, string candidates) =>
        corpus.TryGetValue(id, out RetrievalPassage passage) ? passage.FullText
            : throw new BgeMetalException("cannot evaluate", $"the corpus has no passage \"{id}\"", candidates);

    private RetrievalReport Measure(CancellationToken cancellation)
    {
        float[] scores = new float[_pairs.Length];
        _runner.Run(_pairs, scores, 1, null, cancellation);
        RetrievalRun run = new();
        int first = 0;
        foreach ((string query, string[] passages) in _lists)
        {
            int start = first;
            run.Add(query, passages.Select((id, i) => new RankedPassage(id, scores[start + i])));
            first += passages.Length;
        }
        return RetrievalMetrics.Evaluate(_judgements, run, _schedule.Cutoffs);
    }
}
