using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>mine</c>, also <c>hn_mine</c>: hard negatives into a training file.</summary>
internal static class MineCommand
{
    public static Command Create(Terminal terminal)
    {
        EmbedderOptionSet embedder = new();
        Options options = new();
        CliOption<string?> stats = RunStatistics.Option();
        Command command = new("mine", "Mine hard negatives for {\"query\",\"pos\",\"neg\"} rows");
        command.Aliases.Add("hn_mine");
        embedder.AddTo(command, seed: true);
        options.AddTo(command);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            HardNegativeOptions task = options.Read(parsed) with { Seed = embedder.Seed(parsed) };
            InvalidLines? skipped = task.SkipInvalid ? new InvalidLines() : null;
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            if (task.UseGpuForSearching) session.TellSearch(task.RangeEnd, "--use-gpu-for-searching: ");
            task = task with { QueryInstruction = options.Formatted(parsed, task.QueryInstruction ?? session.Embedder.QueryInstruction) };
            using Reranker? reranker = options.LoadReranker(parsed, terminal, embedder);
            HardNegativeReport report;
            using (Progress progress = terminal.Watch("embedding", "texts", null))
                report = HardNegativeMiner.Run(session.Embedder, task, reranker, skipped, progress, terminal.Cancellation);
            TextChunks.ReportSkipped(terminal, skipped);
            Say(terminal, report, task);
            (session.Statistics() with { Texts = report.Run.Texts, Tokens = report.Run.Tokens, Seconds = report.Run.Seconds }).Report(terminal, "embedded", "texts", parsed.GetValue(stats));
            return ExitCode.Done;
        });
        return command;
    }

    private static void Say(Terminal terminal, HardNegativeReport report, HardNegativeOptions task)
    {
        terminal.Say($"{Terminal.Count(report.Rows)} rows, {Terminal.Count(report.CorpusTexts)} different texts: {Terminal.Count(report.Mined)} negatives mined, {Terminal.Count(report.Filled)} drawn at random");
        if (report.OutOfLimits + report.NearDuplicates + report.Vetoed > 0)
            terminal.Say($"passed over: {Terminal.Count(report.OutOfLimits)} for their score, {Terminal.Count(report.NearDuplicates)} near-duplicates, {Terminal.Count(report.Vetoed)} by the reranker");
        if (report.SuspectedFalseNegatives > 0) terminal.Say($"{Terminal.Count(report.SuspectedFalseNegatives)} candidates score as high as a positive: perhaps they are answers");
        if (report.ShortRows > 0)
            terminal.Warn($"{Terminal.Count(report.ShortRows)} rows have fewer than {task.NegativeNumber} negatives: the corpus has no more texts for them");
    }

    private sealed class Options
    {
        private readonly CliOption<string> _input = InputOption.Input("Rows {\"query\", \"pos\": [..], \"neg\": [..]}");
        private readonly CliOption<string> _output = Opt.RequiredText("--output", "FILE", "The same rows with new negatives", "output-file", "output-path");
        private readonly CliOption<string?> _pool = Opt.Text("--candidate-pool", "FILE", "Texts to mine in, rows {\"text\"}; all positives and negatives of the input by default");
        private readonly CliOption<string> _range = Opt.TextOr("--range-for-sampling", "A-B", "10-210", "Ranks of a query's hits that negatives are drawn from", "sample-range");
        private readonly CliOption<int> _number = Opt.Int("--negative-number", "Negatives of a row", 15, 1, 1 << 16, "num-negatives");
        private readonly CliOption<string?> _instruction = Opt.Text("--query-instruction-for-retrieval", "TEXT", "Put before each query; the model's own by default", "query-instruction", "instruction");
        private readonly CliOption<string> _format = InputOption.QueryFormat();
        private readonly CliOption<bool> _gpu = Opt.Flag("--use-gpu-for-searching", "Search on the device the model computes on");
        private readonly CliOption<double?> _maxScore = Opt.MaybeNumber("--max-score", "Pass over candidates that score higher", -1e9, 1e9);
        private readonly CliOption<double?> _minScore = Opt.MaybeNumber("--min-score", "Pass over candidates that score lower", -1e9, 1e9);
        private readonly CliOption<double?> _absolute = Opt.MaybeNumber("--absolute-margin", "Candidates score at least so much less than the positive", -1e9, 1e9, "margin");
        private readonly CliOption<double?> _relative = Opt.MaybeNumber("--relative-margin", "Candidates score at least this share less than the positive (0.05: at most 95 % of it)", -1, 1);
        private readonly CliOption<double?> _near = Opt.MaybeNumber("--near-duplicate", "Pass over candidates whose cosine with a positive or a better candidate reaches this", 0, 1);
        private readonly CliOption<string?> _reranker = Opt.Text("--reranker", "MODEL", "A cross-encoder that refuses candidates it ranks not below the positive", "cross-encoder", "reranker-model");
        private readonly CliOption<double?> _rerankerMax = Opt.MaybeNumber("--reranker-max-score", "With it: refuse candidates of a higher relevance (0 to 1) too", 0, 1);
        private readonly CliOption<string?> _report = Opt.Text("--report", "FILE", "JSON lines of suspected false negatives: candidates that score as high as the positive");
        private readonly CliOption<string?> _work = Opt.Text("--work-dir", "DIR", "Keeps vectors and finished parts, so that a killed run goes on; OUTPUT.work by default, removed at the end");
        private readonly CliOption<bool> _skip = InputOption.SkipInvalid();

        public void AddTo(Command command)
        {
            foreach (Option option in (Option[])[_input, _output, _pool, _range, _number, _instruction, _format, _gpu, _maxScore, _minScore, _absolute, _relative, _near, _reranker,
                         _rerankerMax, _report, _work, _skip])
                command.Add(option);
        }

        public HardNegativeOptions Read(ParseResult parsed)
        {
            (int start, int end) = Range(parsed.GetValue(_range)!);
            return new HardNegativeOptions
            {
                InputFile = parsed.GetRequiredValue(_input),
                OutputFile = parsed.GetRequiredValue(_output),
                CandidatePool = parsed.GetValue(_pool),
                RangeStart = start,
                RangeEnd = end,
                NegativeNumber = parsed.GetValue(_number),
                QueryInstruction = parsed.GetValue(_instruction),
                UseGpuForSearching = parsed.GetValue(_gpu),
                MaxScore = parsed.GetValue(_maxScore),
                MinScore = parsed.GetValue(_minScore),
                AbsoluteMargin = parsed.GetValue(_absolute),
                RelativeMargin = parsed.GetValue(_relative),
                NearDuplicate = parsed.GetValue(_near),
                RerankerMaxScore = parsed.GetValue(_rerankerMax),
                ReportFile = parsed.GetValue(_report),
                WorkDirectory = parsed.GetValue(_work),
                SkipInvalid = parsed.GetValue(_skip),
            };
        }

        public string? Formatted(ParseResult parsed, string? instruction) => InputOption.Formatted(parsed, _format, instruction);

        public Reranker? LoadReranker(ParseResult parsed, Terminal terminal, EmbedderOptionSet embedder)
        {
            if (parsed.GetValue(_reranker) is not { } name) return null;
            return Reranker.Load(ModelOption.Resolve(name, "main", null, terminal), new RerankerOptions { Compute = embedder.Compute(parsed, terminal) });
        }

        private static (int Start, int End) Range(string text)
        {
            string[] parts = text.Split('-');
            if (parts.Length == 2 && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int start)
                && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int end) && start < end)
                return (start, end);
            throw new UsageException($"--range-for-sampling: '{text}' is no range of ranks such as 10-210");
        }
    }
}
