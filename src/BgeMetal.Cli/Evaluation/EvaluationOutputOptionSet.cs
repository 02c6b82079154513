using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>The options that say where an evaluation goes.</summary>
internal sealed class EvaluationOutputOptionSet
{
    private readonly CliOption<string?> _output = Opt.Text("--output", "FILE", "Write the measures as JSON", "output-file", "eval-output-path");
    private readonly CliOption<string?> _perQuery = Opt.Text("--per-query", "FILE", "Write each query's measures as CSV; with several data sets FILE.NAME.csv each");
    private readonly CliOption<string?> _run = Opt.Text("--run", "FILE", "Write the hits in TREC's format; with several data sets FILE.NAME each");
    private readonly CliOption<string?> _page = Opt.Text("--report", "FILE", "Write one HTML page with tables, pictures and the queries that went worst", "html");
    private readonly CliOption<string?> _stats = RunStatistics.Option();

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_output, _perQuery, _run, _page, _stats]) command.Add(option);
    }

    /// <summary>Where the statistics go, or null.</summary>
    public string? Statistics(ParseResult parsed) => parsed.GetValue(_stats);

    /// <summary>Refuses the outputs that need a run.</summary>
    public void RefuseQueries(ParseResult parsed)
    {
        foreach (CliOption<string?> option in (CliOption<string?>[])[_perQuery, _run, _stats])
            if (parsed.GetValue(option) is not null) throw new UsageException($"{option.Name}: two files are compared, nothing is run");
    }

    /// <summary>Writes what has a row a query.</summary>
    public void WriteQueries(ParseResult parsed, NamedDataset set, int count, RetrievalRun run, RetrievalReport report)
    {
        if (parsed.GetValue(_run) is { } runFile) run.WriteTrec(count == 1 ? runFile : $"{runFile}.{set.Label}");
        if (parsed.GetValue(_perQuery) is { } csv) report.WriteCsv(Baseline.FileOf(csv, set.Label, count));
    }

    /// <summary>Writes the files and shows the tables.</summary>
    public void Write(ParseResult parsed, Terminal terminal, EvaluationHead head, IReadOnlyList<EvaluatedSet> sets)
    {
        string? json = parsed.GetValue(_output);
        EvaluationTable.Show(terminal, sets, results: json is null);
        if (json is not null) EvaluationJson.Write(json, head, sets);
        if (parsed.GetValue(_page) is { } page) EvaluationPage.Write(page, head, sets);
    }
}
