using System.CommandLine;
using BgeMetal.Cli.Evaluation;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>eval</c>: retrieval quality on test sets, optionally after reranking, and whether it differs from another run's.</summary>
internal static class EvalCommand
{
    public static Command Create(Terminal terminal)
    {
        EvaluationDataOptionSet data = new();
        EvaluationOptionSet evaluation = new();
        EvaluationOutputOptionSet output = new();
        EmbedderOptionSet embedder = new();
        CliOption<string[]> compare = Opt.Texts("--compare", "BASELINE", "Test whether the run differs from BASELINE: a file of --per-query, or another model under the same conditions; two files of --per-query are compared without --model and --data");
        Command command = new("eval", "Measure retrieval: nDCG, MRR, recall and MAP; compare with another run");
        data.AddTo(command);
        evaluation.AddTo(command);
        output.AddTo(command);
        command.Add(compare);
        embedder.AddTo(command, seed: true);
        embedder.MakeModelOptional();
        command.SetAction(parsed =>
        {
            string[] against = parsed.GetValue(compare)!;
            if (against.Length > 2) throw new UsageException($"--compare: one baseline, or two files, were expected, found {against.Length}");
            if (against.Length == 2) return CompareFiles(parsed, terminal, data, output, embedder, against);
            IReadOnlyList<NamedDataset> sets = data.Read(parsed);
            foreach (string warning in sets.SelectMany(set => set.Data.Warnings).Distinct()) terminal.Warn(warning);
            using Baseline? baseline = against is [{ } name] ? Baseline.Open(name, sets, directory => embedder.Load(parsed, terminal, directory), terminal) : null;
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            using RerankSession? reranker = evaluation.LoadReranker(parsed, terminal, embedder);
            using RetrievalEvaluation run = evaluation.Create(parsed, terminal, session, reranker, data.HasFiles(parsed));
            List<EvaluatedSet> results = [];
            foreach (NamedDataset set in sets)
            {
                RetrievalRun lists = run.Search(set);
                RetrievalReport report = run.Measure(set, lists);
                output.WriteQueries(parsed, set, sets.Count, lists, report);
                results.Add(new EvaluatedSet(set.Label, set.Data, report, null));
            }
            if (baseline is not null) Compare(parsed, terminal, sets, results, baseline, evaluation, embedder, reranker, data.HasFiles(parsed));
            EvaluationHead head = new(embedder.ModelName(parsed), evaluation.RerankerName(parsed), run.QueryInstruction, baseline?.Name);
            output.Write(parsed, terminal, head, results);
            session.Statistics().Report(terminal, "embedded", "texts", output.Statistics(parsed));
            return ExitCode.Done;
        });
        return command;
    }

    /// <summary>Puts the comparison with the baseline beside each result.</summary>
    private static void Compare(ParseResult parsed, Terminal terminal, IReadOnlyList<NamedDataset> sets, List<EvaluatedSet> results, Baseline baseline, EvaluationOptionSet evaluation,
        EmbedderOptionSet embedder, RerankSession? reranker, bool files)
    {
        RetrievalEvaluation? other = null;
        try
        {
            for (int i = 0; i < results.Count; i++)
            {
                NamedDataset set = sets[i];
                RunComparison comparison = baseline.Compare(set, results[i].Report, session =>
                {
                    other ??= evaluation.Create(parsed, terminal, session, reranker, files);
                    return other.Measure(set, other.Search(set));
                }, embedder.Seed(parsed));
                results[i] = results[i] with { Comparison = comparison };
            }
        }
        finally
        {
            other?.Dispose();
        }
    }

    private static int CompareFiles(ParseResult parsed, Terminal terminal, EvaluationDataOptionSet data, EvaluationOutputOptionSet output, EmbedderOptionSet embedder, string[] files)
    {
        if (embedder.HasModel(parsed) || data.IsGiven(parsed)) throw new UsageException("--compare with two files needs nothing but those: leave --model and the data out, or give one baseline");
        output.RefuseQueries(parsed);
        RetrievalReport report = RetrievalReport.ReadCsv(files[1]);
        RunComparison comparison = RunComparison.Of(RetrievalReport.ReadCsv(files[0]), report, embedder.Seed(parsed), files[0]);
        output.Write(parsed, terminal, new EvaluationHead(files[1], null, null, files[0]), [new EvaluatedSet(Path.GetFileNameWithoutExtension(files[1]), null, report, comparison)]);
        return ExitCode.Done;
    }
}
