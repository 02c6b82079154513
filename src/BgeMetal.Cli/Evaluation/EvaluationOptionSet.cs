using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>The options that say how to search and what to measure.</summary>
internal sealed class EvaluationOptionSet
{
    private static readonly int[] s_cutoffs = [1, 5, 10, 100];
    private static readonly int[] s_cutoffsOfFiles = [1, 10, 100];

    private readonly CliOption<int[]> _cutoffs = Opt.Ints("--k", "Cut-offs of the measures; with --query-data one K stands for 1, 10, 100 up to K, as in eval_msmarco", s_cutoffs, 1, 1_000_000, "k-values");
    private readonly CliOption<int> _depth = Opt.Int("--top-k", "Hits kept for each query; at least the largest cut-off", 1000, 1, 1_000_000, "search-top-k");
    private readonly CliOption<string?> _instruction = Opt.Text("--instruction", "TEXT", "Put before each query; the model's own by default, \"\" for none", "query-instruction-for-retrieval", "query-instruction");
    private readonly CliOption<string> _format = InputOption.QueryFormat();
    private readonly CliOption<bool?> _add = Opt.MaybeFlag("--add-instruction", "The model's own instruction before each query, BGE's English one where it has none; false for none");
    private readonly CliOption<string?> _passageInstruction = Opt.Text("--passage-instruction", "TEXT", "Put before each passage", "passage-instruction-for-retrieval");
    private readonly CliOption<int?> _queryLength = Opt.MaybeInt("--query-max-length", "Tokens a query is cut to, where that differs from --max-length", 3, 1 << 20, "query-max-len", "embedder-query-max-length", "max-query-length");
    private readonly CliOption<string?> _reranker = Opt.Text("--reranker", "MODEL", "Reorder the best hits with this cross-encoder", "reranker-name-or-path");
    private readonly CliOption<int> _rerankDepth = Opt.Int("--rerank-top-k", "How many hits are reordered; those behind keep their order", 100, 1, 1_000_000);
    private readonly CliOption<int?> _rerankLength = Opt.MaybeInt("--reranker-max-length", "Tokens a pair is cut to", 3, 1 << 20);
    private readonly CliOption<bool> _ignoreIdentical = Opt.Flag("--ignore-identical-ids", "Leave out hits whose id is the query's (ArguAna, Quora)");
    private readonly RerankInstructionOptionSet _rerankInstructions = new();
    private readonly TaskOptionSet _tasks = new();

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_cutoffs, _depth, _instruction, _format, _add, _passageInstruction, _queryLength, _reranker, _rerankDepth, _rerankLength, _ignoreIdentical]) command.Add(option);
        _rerankInstructions.AddTo(command);
        _tasks.AddTo(command);
    }

    /// <summary>The reranker as it was named, or null.</summary>
    public string? RerankerName(ParseResult parsed) => parsed.GetValue(_reranker);

    /// <summary>Loads the reranker, where one is named.</summary>
    public RerankSession? LoadReranker(ParseResult parsed, Terminal terminal, EmbedderOptionSet embedder) => parsed.GetValue(_reranker) is not { } name ? null
        : new RerankSession(terminal, ModelOption.Resolve(name, "main", null, terminal), new RerankerOptions { MaxLength = parsed.GetValue(_rerankLength), Compute = embedder.Compute(parsed, terminal) },
            _rerankInstructions.Read(parsed));

    /// <summary>The evaluation of a model; <paramref name="files"/> says whether the data are eval_msmarco's files.</summary>
    public RetrievalEvaluation Create(ParseResult parsed, Terminal terminal, EmbeddingSession session, RerankSession? reranker, bool files)
    {
        if (parsed.GetValue(_add) is not null && parsed.GetValue(_instruction) is not null) throw InputOption.Contradiction(_add, _instruction);
        TaskInstruction? task = _tasks.Read(parsed, terminal, session.Embedder, _instruction);
        return new RetrievalEvaluation(terminal, session, reranker)
        {
            Cutoffs = Cutoffs(parsed, files),
            Depth = parsed.GetValue(_depth),
            RerankDepth = parsed.GetValue(_rerankDepth),
            QueryInstruction = InputOption.Formatted(parsed, _format, task?.Query ?? parsed.GetValue(_instruction) ?? Own(session.Embedder, parsed.GetValue(_add))),
            PassageInstruction = parsed.GetValue(_passageInstruction) ?? task?.Key,
            QueryMaxLength = parsed.GetValue(_queryLength),
            IgnoreIdenticalIds = parsed.GetValue(_ignoreIdentical),
        };
    }

    private int[] Cutoffs(ParseResult parsed, bool files)
    {
        int[] given = parsed.IntsOr(_cutoffs, files ? s_cutoffsOfFiles : s_cutoffs);
        return files && given is [int k] ? [.. s_cutoffsOfFiles.Where(cutoff => cutoff < k), k] : given;
    }

    private static string? Own(Embedder embedder, bool? add) => add switch
    {
        false => "",
        true when string.IsNullOrEmpty(embedder.QueryInstruction) => Embedder.BgeEnglishInstruction,
        _ => embedder.QueryInstruction,
    };
}
