using BgeMetal.Cli.Output;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>What a run is compared with: the measures of an earlier run, or another model under the same conditions.</summary>
internal sealed class Baseline : IDisposable
{
    private readonly Dictionary<string, (RetrievalReport Report, string File)> _read = new(StringComparer.Ordinal);
    private readonly Func<string, EmbeddingSession> _load;
    private readonly string? _directory;
    private EmbeddingSession? _session;

    private Baseline(string name, string? directory, Func<string, EmbeddingSession> load) => (Name, _directory, _load) = (name, directory, load);

    /// <summary>The baseline as it was named.</summary>
    public string Name { get; }

    /// <summary>Reads the files, so that a bad one is found before the long work, or finds the model.</summary>
    /// <param name="name">A file that --per-query wrote (with several data sets the name before their labels), or a model.</param>
    /// <param name="sets">What is evaluated.</param>
    /// <param name="load">Loads the model of a folder.</param>
    /// <param name="terminal">Where a download is shown.</param>
    /// <exception cref="BgeMetalException">A file is missing or bad, or there is no such model.</exception>
    public static Baseline Open(string name, IReadOnlyList<NamedDataset> sets, Func<string, EmbeddingSession> load, Terminal terminal)
    {
        bool isFile = sets.Any(set => File.Exists(FileOf(name, set.Label, sets.Count))) || name.EndsWith(".csv", StringComparison.OrdinalIgnoreCase);
        if (!isFile) return new Baseline(name, ModelOption.Resolve(name, "main", null, terminal), load);
        Baseline baseline = new(name, null, load);
        foreach (NamedDataset set in sets)
        {
            string file = FileOf(name, set.Label, sets.Count);
            RetrievalReport report = RetrievalReport.ReadCsv(file);
            RunComparison.Require(report, set.Data.Judgements, file);
            baseline._read[set.Label] = (report, file);
        }
        return baseline;
    }

    /// <summary>Where the measures of a data set's queries lie: one file as it is named, several with the data sets' labels.</summary>
    public static string FileOf(string name, string label, int count) => count == 1 ? name : $"{name}.{label}.csv";

    /// <summary>Compares a run.</summary>
    /// <param name="set">What it was evaluated on.</param>
    /// <param name="report">Its measures.</param>
    /// <param name="measure">Evaluates the other model under the same conditions.</param>
    /// <param name="seed">Of the randomisation test.</param>
    public RunComparison Compare(NamedDataset set, RetrievalReport report, Func<EmbeddingSession, RetrievalReport> measure, int seed)
    {
        if (_directory is null) return RunComparison.Of(_read[set.Label].Report, report, seed, _read[set.Label].File);
        _session ??= _load(_directory);
        return RunComparison.Of(measure(_session), report, seed);
    }

    /// <inheritdoc/>
    public void Dispose() => _session?.Dispose();
}
