namespace BgeMetal.Retrieval;

/// <summary>One measure of two runs over the same queries.</summary>
/// <param name="Metric">The measure's name.</param>
/// <param name="Baseline">The average of the first run.</param>
/// <param name="Run">The average of the second run.</param>
/// <param name="Wins">Queries where the second run is better.</param>
/// <param name="Losses">Queries where it is worse.</param>
/// <param name="Ties">Queries where both are equal.</param>
/// <param name="TTest">Two-sided p of the paired t-test; NaN for fewer than two queries.</param>
/// <param name="Randomization">Two-sided p of the paired randomisation test.</param>
public sealed record MetricComparison(string Metric, double Baseline, double Run, int Wins, int Losses, int Ties, double TTest, double Randomization)
{
    /// <summary>How much better the second run is.</summary>
    public double Difference => Run - Baseline;
}

/// <summary>
/// Two runs over the same queries and judgements, measure by measure, with two paired tests of whether the difference could be chance: Student's t-test, and the
/// randomisation test (Smucker, Allan and Carterette 2007), which assumes nothing about the differences' distribution. No correction is made for looking at several measures.
/// </summary>
public sealed class RunComparison
{
    private RunComparison(RetrievalReport baseline, RetrievalReport run, int seed, IReadOnlyList<MetricComparison> metrics)
    {
        Baseline = baseline;
        Run = run;
        Seed = seed;
        Metrics = metrics;
    }

    /// <summary>The first run's measures.</summary>
    public RetrievalReport Baseline { get; }

    /// <summary>The second run's measures.</summary>
    public RetrievalReport Run { get; }

    /// <summary>The seed of the randomisation test.</summary>
    public int Seed { get; }

    /// <summary>The measures that both runs have, in the second run's order.</summary>
    public IReadOnlyList<MetricComparison> Metrics { get; }

    /// <summary>Compares two runs; the result depends on nothing else than these arguments.</summary>
    /// <param name="baseline">The first run's measures.</param>
    /// <param name="run">The second run's measures.</param>
    /// <param name="seed">The seed of the randomisation test, where there are too many queries to count all assignments.</param>
    /// <param name="baselineFile">The file the first run was read from, for errors; null for none.</param>
    /// <exception cref="BgeMetalException">The runs were measured on different queries or judgements, or have no measure in common.</exception>
    public static RunComparison Of(RetrievalReport baseline, RetrievalReport run, int seed = 42, string? baselineFile = null)
    {
        ArgumentNullException.ThrowIfNull(baseline);
        ArgumentNullException.ThrowIfNull(run);
        RequireSameQueries(baseline, run.Queries.Select(query => (query.QueryId, query.Relevant)), baselineFile);
        string[] names = [.. run.MetricNames.Where(baseline.Averages.ContainsKey)];
        if (names.Length == 0) throw new BgeMetalException("cannot compare", $"the baseline has none of the measures {string.Join(", ", run.MetricNames)}", baselineFile);
        return new RunComparison(baseline, run, seed, [.. names.Select(name => Compare(name, Differences(baseline, run, name), baseline[name], run[name], seed))]);
    }

    /// <summary>Requires that a run can be compared with one that is yet to be measured by these judgements: finds a wrong file before the long work.</summary>
    /// <exception cref="BgeMetalException">It was measured on other queries or judgements.</exception>
    public static void Require(RetrievalReport baseline, Judgements judgements, string? baselineFile = null)
    {
        ArgumentNullException.ThrowIfNull(baseline);
        ArgumentNullException.ThrowIfNull(judgements);
        RequireSameQueries(baseline, judgements.Queries.Select(query => (query, judgements.Of(query).Values.Count(relevance => relevance > 0))), baselineFile);
    }

    /// <summary>By how much the second run is better, a query each, in the order of <see cref="Run"/>'s queries.</summary>
    public double[] Differences(string metric) => Differences(Baseline, Run, metric);

    private static double[] Differences(RetrievalReport baseline, RetrievalReport run, string metric)
    {
        Dictionary<string, double> before = baseline.ByQuery(metric), after = run.ByQuery(metric);
        return [.. run.Queries.Select(query => after[query.QueryId] - before[query.QueryId])];
    }

    private static MetricComparison Compare(string name, double[] differences, double baseline, double run, int seed) => new(name, baseline, run,
        differences.Count(d => d > 0), differences.Count(d => d < 0), differences.Count(d => d == 0), Significance.TTest(differences), Significance.Randomization(differences, seed));

    private static void RequireSameQueries(RetrievalReport baseline, IEnumerable<(string Id, int Relevant)> run, string? file)
    {
        Dictionary<string, int> before = baseline.Queries.ToDictionary(query => query.QueryId, query => query.Relevant, StringComparer.Ordinal);
        foreach ((string id, int here) in run)
        {
            if (!before.Remove(id, out int there)) throw new BgeMetalException("cannot compare", $"the baseline was measured on other queries: it has no query \"{id}\"", file);
            if (there != here)
                throw new BgeMetalException("cannot compare", $"the baseline was measured with other judgements: query \"{id}\" had {there} relevant passages there, and has {here} here", file);
        }

        if (before.Count > 0) throw new BgeMetalException("cannot compare", $"the baseline was measured on other queries: its query \"{before.Keys.First()}\" is not here", file);
    }
}
