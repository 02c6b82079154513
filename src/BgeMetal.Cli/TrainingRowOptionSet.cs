using System.CommandLine;
using BgeMetal.Cli.Parsing;

namespace BgeMetal.Cli;

/// <summary>What <see cref="TrainingRowOptionSet"/> reads.</summary>
/// <param name="Files">Files and folders of rows.</param>
/// <param name="MaxRowsPerFile">Most rows of one file.</param>
/// <param name="SkipInvalid">Whether bad rows are counted and left out.</param>
/// <param name="GroupSize">Candidates of a query: one positive, the rest negatives.</param>
/// <param name="Distill">Whether teacher scores are learnt from.</param>
/// <param name="Query">Put before each query; null for nothing.</param>
/// <param name="QueryFormat">How the two are joined.</param>
/// <param name="Passage">Put before each passage; null for nothing.</param>
/// <param name="PassageFormat">How the two are joined.</param>
internal sealed record TrainingRowChoices(string[] Files, int MaxRowsPerFile, bool SkipInvalid, int GroupSize, bool Distill,
    string? Query, string QueryFormat, string? Passage, string PassageFormat);

/// <summary>The options of trainers on <c>{"query","pos","neg"}</c> rows: which rows, how many candidates of each, and what is put before their texts.</summary>
/// <param name="purpose">The last word of the instruction options: "retrieval", "rerank".</param>
/// <param name="candidates">What a group is made of: "Passages", "Pairs".</param>
/// <param name="smallestGroup">The smallest group that can be learnt from.</param>
internal sealed class TrainingRowOptionSet(string purpose, string candidates, int smallestGroup)
{
    private readonly CliOption<string[]> _data = Opt.Texts("--train-data", "FILE|DIR", "Files or folders of {\"query\",\"pos\",\"neg\"} rows");
    private readonly CliOption<int> _cap = Opt.Int("--max-example-num-per-dataset", "Most rows of one file", 100_000_000, 1, int.MaxValue);
    private readonly CliOption<bool> _skip = InputOption.SkipInvalid();
    private readonly CliOption<int> _group = Opt.Int("--train-group-size", $"{candidates} of a query: one positive, the rest negatives", 8, smallestGroup, 4096);
    private readonly CliOption<bool> _distill = Opt.Flag("--knowledge-distillation", "Learn from the rows' pos_scores and neg_scores");
    private readonly CliOption<string?> _query = Opt.Text($"--query-instruction-for-{purpose}", "TEXT", "Put before each query");
    private readonly CliOption<string> _queryFormat = Opt.TextOr("--query-instruction-format", "FORMAT", "{}{}", "How instruction and query are joined");
    private readonly CliOption<string?> _passage = Opt.Text($"--passage-instruction-for-{purpose}", "TEXT", "Put before each passage");
    private readonly CliOption<string> _passageFormat = Opt.TextOr("--passage-instruction-format", "FORMAT", "{}{}", "How instruction and passage are joined");

    public void AddTo(Command command)
    {
        _data.Required = true;
        foreach (Option option in (Option[])[_data, _cap, _skip, _group, _distill, _query, _queryFormat, _passage, _passageFormat]) command.Add(option);
    }

    public TrainingRowChoices Read(ParseResult parsed) => new(parsed.GetRequiredValue(_data), parsed.GetValue(_cap), parsed.GetValue(_skip), parsed.GetValue(_group),
        parsed.GetValue(_distill), parsed.GetValue(_query), parsed.GetValue(_queryFormat)!, parsed.GetValue(_passage), parsed.GetValue(_passageFormat)!);
}
