using System.CommandLine;
using BgeMetal.Cli.Parsing;
using BgeMetal.Training;

namespace BgeMetal.Cli;

/// <summary>The options of retrieval measured during a training; of reordered hits, for a reranker.</summary>
internal sealed class TrainingEvaluationOptionSet(bool reranks = false)
{
    private readonly CliOption<string?> _data = Opt.Text("--eval-data", "DIR", "Measure retrieval on this folder (BEIR layout) before, after and during the training; the best model goes to best_model");
    private readonly CliOption<string?> _candidates = Opt.Text("--eval-candidates", "FILE", "The hits to reorder, a run in TREC's format as eval --run writes it");
    private readonly CliOption<int> _topK = Opt.Int("--eval-top-k", "How many hits of a query are reordered", 50, 1, 1_000_000);
    private readonly CliOption<string> _split = Opt.TextOr("--eval-split", "NAME", "test", "Which judgements of --eval-data");
    private readonly CliOption<int> _steps = Opt.Int("--eval-steps", "Steps between two measurements; 0 for none but the first and the last", 0, 0, int.MaxValue);
    private readonly CliOption<string> _metric = Opt.TextOr("--metric-for-best-model", "NAME", "ndcg@10", "Which measure decides what is best");

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_data, _split, _steps, _metric]) command.Add(option);
        if (!reranks) return;
        command.Add(_candidates);
        command.Add(_topK);
    }

    /// <summary>What was asked for; null without --eval-data.</summary>
    public EvaluationOptions? Read(ParseResult parsed)
    {
        if (parsed.GetValue(_data) is not { } directory) return null;
        EvaluationOptions options = new()
        {
            DataDirectory = directory,
            Split = parsed.GetValue(_split)!,
            Steps = parsed.GetValue(_steps),
            Metric = parsed.GetValue(_metric)!,
        };
        return reranks ? options with { CandidateFile = parsed.GetValue(_candidates), Candidates = parsed.GetValue(_topK) } : options;
    }
}
