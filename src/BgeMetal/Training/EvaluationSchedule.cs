using System.Globalization;
using BgeMetal.Retrieval;

namespace BgeMetal.Training;

/// <summary>
/// When a model is measured during its training, and what becomes of the results: each is a line of eval_log.csv, and the model with the best one is saved to best_model.
/// </summary>
internal sealed class EvaluationSchedule
{
    private static readonly int[] s_cutoffs = [1, 5, 10, 100];
    private static readonly string[] s_measures = ["ndcg", "mrr", "recall", "map", "precision", "hit_rate"];
    private readonly TrainableModel _model;
    private readonly SavedForm _form;
    private readonly TrainingOptions _options;
    private readonly EvaluationOptions _evaluation;
    private EvaluationLog? _log;

    /// <summary>A schedule of measurements.</summary>
    /// <exception cref="BgeMetalException">An option is out of range.</exception>
    public EvaluationSchedule(TrainableModel model, SavedForm form, TrainingOptions options, EvaluationOptions evaluation)
    {
        (_model, _form, _options, _evaluation) = (model, form, options, evaluation);
        Cutoffs = [.. s_cutoffs.Append(Cutoff(evaluation.Metric)).Distinct().Order()];
        if (evaluation.Steps < 0) throw new BgeMetalException("option --eval-steps", $"{evaluation.Steps} is out of range, expected at least 0");
        if (!model.HasTokenizer) throw new BgeMetalException("cannot evaluate", "the model has no tokenizer", model.Directory);
    }

    /// <summary>The measures' cut-offs, ascending.</summary>
    public int[] Cutoffs { get; }

    /// <summary>Before the first step of this process.</summary>
    public void Begin(long step, double epoch, Func<RetrievalReport> measure)
    {
        _log = new EvaluationLog(_options.OutputDirectory, _evaluation.Metric, step);
        if (_log.LastStep < step && IsDue(step)) Evaluate(step, epoch, measure);
    }

    /// <summary>After each step.</summary>
    public void After(long step, double epoch, bool isLast, Func<RetrievalReport> measure)
    {
        if (isLast || IsDue(step)) Evaluate(step, epoch, measure);
    }

    private static int Cutoff(string metric)
    {
        string[] parts = metric.Split('@');
        if (metric == "map") return s_cutoffs[0];
        if (parts.Length == 2 && s_measures.Contains(parts[0]) && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int cutoff) && cutoff is >= 1 and <= 1000) return cutoff;
        throw new BgeMetalException("option --metric-for-best-model", $"\"{metric}\" is unknown, expected map or one of {string.Join(", ", s_measures)} with a cut-off up to 1000, such as ndcg@10");
    }

    private bool IsDue(long step) => step == 0 || (_evaluation.Steps > 0 && step % _evaluation.Steps == 0);

    private void Evaluate(long step, double epoch, Func<RetrievalReport> measure)
    {
        if (_log!.Append(step, epoch, measure())) _model.Save(Path.Combine(_options.OutputDirectory, "best_model"), _form, overwrite: true);
    }
}
