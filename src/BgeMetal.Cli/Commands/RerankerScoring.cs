using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary>The part of <c>score</c> whose teacher is a cross-encoder.</summary>
internal sealed class RerankerScoring
{
    private readonly CliOption<string?> _reranker = Opt.Text("--reranker", "MODEL", "A cross-encoder as the teacher: a folder or a hub id", "reranker-name-or-path");
    private readonly CliOption<int?> _maxLength = Opt.MaybeInt("--max-length", "Tokens a pair is cut to; the model's limit, at most 512, by default", 3, 1 << 20, "max-len", "reranker-max-length");
    private readonly CliOption<bool> _normalize = Opt.Flag("--normalize", "Scores between 0 and 1 (sigmoid) instead of logits");
    private readonly CliOption<bool> _skip = InputOption.SkipInvalid();
    private readonly CliOption<string> _revision = ModelOption.Revision();
    private readonly CliOption<string?> _cache = ModelOption.CacheDirectory();
    private readonly CliOption<string?> _stats = RunStatistics.Option();
    private readonly ComputeOptionSet _compute = new();

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_reranker, _maxLength, _normalize, _skip, _revision, _cache, _stats]) command.Add(option);
        _compute.AddTo(command);
    }

    /// <summary>Whether the command line names a reranker.</summary>
    public bool IsAskedFor(ParseResult parsed) => parsed.GetValue(_reranker) is not null;

    /// <summary>Scores the rows of a file.</summary>
    public int Run(ParseResult parsed, Terminal terminal, string input, string output)
    {
        string directory = ModelOption.Resolve(parsed.GetValue(_reranker)!, parsed.GetValue(_revision)!, parsed.GetValue(_cache), terminal);
        using RerankSession session = new(terminal, directory, new RerankerOptions
        {
            MaxLength = parsed.GetValue(_maxLength),
            Normalize = parsed.GetValue(_normalize),
            Compute = _compute.Read(parsed, terminal),
        });
        InvalidLines? skipped = parsed.GetValue(_skip) ? new InvalidLines() : null;
        EmbeddingRun done;
        using (Progress progress = terminal.Watch("scoring", "pairs", null))
            done = TeacherScorer.Run(session.Reranker, input, output, skipped, progress, terminal.Cancellation);
        TextChunks.ReportSkipped(terminal, skipped);
        (session.Statistics() with { Texts = done.Texts, Tokens = done.Tokens }).Report(terminal, "scored", "pairs", parsed.GetValue(_stats));
        return ExitCode.Done;
    }
}
