using System.CommandLine;
using BgeMetal.Cli.Evaluation;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>eval</c>: retrieval quality on data sets in BEIR's layout, optionally after reranking.</summary>
internal static class EvalCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string[]> data = Opt.Texts("--data", "DIR", "Folders with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (.gz of each)", "dataset-dir", "eval-data");
        data.Required = true;
        CliOption<string> split = Opt.TextOr("--split", "NAME", "test", "Which judgements", "splits");
        CliOption<int[]> cutoffs = Opt.Ints("--k", "Cut-offs of the measures", [1, 5, 10, 100], 1, 1_000_000, "k-values");
        CliOption<int> depth = Opt.Int("--top-k", "Hits kept for each query; at least the largest cut-off", 1000, 1, 1_000_000, "search-top-k");
        CliOption<string?> instruction = Opt.Text("--instruction", "TEXT", "Put before each query; the model's own by default, \"\" for none", "query-instruction-for-retrieval", "query-instruction");
        CliOption<string?> passageInstruction = Opt.Text("--passage-instruction", "TEXT", "Put before each passage", "passage-instruction-for-retrieval");
        TaskOptionSet tasks = new();
        CliOption<int?> queryLength = Opt.MaybeInt("--query-max-length", "Tokens a query is cut to, where that differs from --max-length", 3, 1 << 20, "query-max-len", "embedder-query-max-length");
        CliOption<string?> reranker = Opt.Text("--reranker", "MODEL", "Reorder the best hits with this cross-encoder", "reranker-name-or-path");
        CliOption<int> rerankDepth = Opt.Int("--rerank-top-k", "How many hits are reordered", 100, 1, 1_000_000);
        CliOption<int?> rerankLength = Opt.MaybeInt("--reranker-max-length", "Tokens a pair is cut to", 3, 1 << 20);
        CliOption<bool> ignoreIdentical = Opt.Flag("--ignore-identical-ids", "Leave out hits whose id is the query's (ArguAna, Quora)");
        CliOption<string?> output = Opt.Text("--output", "FILE", "Write the measures as JSON", "output-file", "eval-output-path");
        CliOption<string?> perQuery = Opt.Text("--per-query", "FILE", "Write each query's measures as CSV; with several data sets FILE.NAME.csv each");
        CliOption<string?> runFile = Opt.Text("--run", "FILE", "Write the hits in TREC's format; with several data sets FILE.NAME each");
        CliOption<string?> stats = RunStatistics.Option();
        EmbedderOptionSet embedder = new();
        Command command = new("eval", "Measure retrieval: nDCG, MRR, recall and MAP") { data, split, cutoffs, depth, instruction, passageInstruction, queryLength };
        foreach (Option option in (Option[])[reranker, rerankDepth, rerankLength, ignoreIdentical, output, perQuery, runFile]) command.Add(option);
        tasks.AddTo(command);
        embedder.AddTo(command);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            RetrievalDataset[] datasets = [.. parsed.GetRequiredValue(data).Select(folder => RetrievalDataset.Load(folder, parsed.GetValue(split)!))];
            foreach (string warning in datasets.SelectMany(dataset => dataset.Warnings)) terminal.Warn(warning);
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            using RerankSession? second = parsed.GetValue(reranker) is { } name
                ? new RerankSession(terminal, ModelOption.Resolve(name, "main", null, terminal), new RerankerOptions { MaxLength = parsed.GetValue(rerankLength), Compute = embedder.Compute(parsed, terminal) })
                : null;
            TaskInstruction? task = tasks.Read(parsed, terminal, session.Embedder, instruction);
            RetrievalEvaluation evaluation = new(terminal, session, second)
            {
                Cutoffs = parsed.GetValue(cutoffs)!,
                Depth = parsed.GetValue(depth),
                RerankDepth = parsed.GetValue(rerankDepth),
                QueryInstruction = task?.Query ?? parsed.GetValue(instruction) ?? session.Embedder.QueryInstruction,
                PassageInstruction = parsed.GetValue(passageInstruction) ?? task?.Key,
                QueryMaxLength = parsed.GetValue(queryLength),
                IgnoreIdenticalIds = parsed.GetValue(ignoreIdentical),
            };
            List<(RetrievalDataset Data, RetrievalReport Report)> results = [];
            foreach (RetrievalDataset dataset in datasets)
            {
                RetrievalRun run = evaluation.Search(dataset);
                if (parsed.GetValue(runFile) is { } runPath) run.WriteTrec(datasets.Length == 1 ? runPath : $"{runPath}.{dataset.Name}");
                RetrievalReport report = evaluation.Measure(dataset, run);
                if (parsed.GetValue(perQuery) is { } csv) report.WriteCsv(datasets.Length == 1 ? csv : $"{csv}.{dataset.Name}.csv");
                results.Add((dataset, report));
            }
            EvaluationTable.Show(terminal, results, results: parsed.GetValue(output) is null);
            if (parsed.GetValue(output) is { } json) EvaluationTable.WriteJson(json, embedder.ModelName(parsed), parsed.GetValue(reranker), results);
            session.Statistics().Report(terminal, "embedded", "texts", parsed.GetValue(stats));
            return ExitCode.Done;
        });
        return command;
    }
}
