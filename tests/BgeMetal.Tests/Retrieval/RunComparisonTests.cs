using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Retrieval;

/// <summary>Two runs compared: the tests' probabilities against published examples, closed forms and counting; what may be compared.</summary>
public sealed class RunComparisonTests : IDisposable
{
    /// <summary>Student 1908: hours of sleep won by two drugs, ten patients.</summary>
    private static readonly double[] s_sleep = [1.2, 2.4, 1.3, 1.3, 0, 1, 1.8, 0.8, 4.6, 1.4];

    /// <summary>Darwin's maize, Fisher 1935 ("The Design of Experiments", section 21): crossed less self-fertilised, eighths of an inch.</summary>
    private static readonly double[] s_maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];

    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Published_examples_have_their_published_probabilities()
    {
        Assert.Equal(0.002833, Significance.TTest(s_sleep), 5e-7);
        Assert.Equal(0.0497, Significance.TTest(s_maize), 5e-5);
        Assert.Equal(2 * 863 / 32768.0, Significance.Randomization(s_maize, seed: 1));
    }

    /// <summary>For whole degrees of freedom the probability is a finite sum (Abramowitz and Stegun 26.7.3 and 26.7.4).</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(101)]
    [InlineData(1000)]
    public void Students_distribution_is_that_of_the_finite_sum(int degrees)
    {
        foreach (double t in new[] { 1e-3, 0.1, 0.7, 1, 1.96, 3.3, -2 })
        {
            double angle = Math.Atan(Math.Abs(t) / Math.Sqrt(degrees)), cos = Math.Cos(angle), term = degrees % 2 == 1 ? cos : 1, sum = degrees == 1 ? 0 : term;
            for (int k = degrees % 2 == 1 ? 2 : 1; k + 1 <= degrees - 2; k += 2) sum += term *= cos * cos * k / (k + 1);
            double expected = degrees % 2 == 1 ? 1 - (2 / Math.PI * (angle + (Math.Sin(angle) * sum))) : 1 - (Math.Sin(angle) * sum);
            Assert.Equal(expected, StudentT.TwoSided(t, degrees), 1e-11);
        }
    }

    [Fact]
    public void Very_small_probabilities_keep_their_digits()
    {
        // For one degree of freedom p = 1 - 2 atan(t) / pi = 2 atan(1 / t) / pi.
        Assert.Equal(1, StudentT.TwoSided(1e12, 1) / (2 * Math.Atan(1e-12) / Math.PI), 1e-12);
        // For two p = 1 - t / sqrt(2 + t^2), to second order 1 / t^2.
        Assert.Equal(1, StudentT.TwoSided(1e9, 2) * 1e18, 1e-12);
        Assert.Equal(0, StudentT.TwoSided(double.PositiveInfinity, 5));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(9)]
    [InlineData(16)]
    public void Few_differences_are_tested_by_counting_all_assignments_ties_included(int count)
    {
        double[] differences = Differences(count, seed: count, zeros: 3);
        Assert.Equal(Counted(differences), Significance.Randomization(differences, seed: 1), 1e-12);
    }

    [Fact]
    public void Many_differences_are_tested_by_drawing_near_the_counted_share_and_the_same_for_the_same_seed()
    {
        double[] differences = Differences(20, seed: 3, zeros: 5);
        double counted = Counted(differences), drawn = Significance.Randomization(differences, seed: 1);
        Assert.InRange(counted, 0.01, 0.9);
        Assert.Equal(counted, drawn, 4 * Math.Sqrt(counted * (1 - counted) / Significance.Trials));
        Assert.Equal(drawn, Significance.Randomization(differences, seed: 1));
        Assert.NotEqual(drawn, Significance.Randomization(differences, seed: 2));
        Assert.Equal(1.0 / (Significance.Trials + 1), Significance.Randomization([.. Enumerable.Repeat(0.5, 100)], seed: 1));
    }

    [Fact]
    public void Equal_runs_and_a_single_query_prove_nothing()
    {
        Assert.Equal((1, 1), (Significance.TTest([0, 0, 0]), Significance.Randomization([0, 0, 0], 1)));
        Assert.Equal((1, 1), (Significance.TTest([0.5, -0.5]), Significance.Randomization([0.5, -0.5], 1)));
        Assert.True(double.IsNaN(Significance.TTest([1])));
        Assert.Equal(1, Significance.Randomization([1], 1));
    }

    [Fact]
    public void A_run_is_compared_with_one_read_back_from_its_file()
    {
        string path = Path.Combine(_folder, "queries.csv");
        RetrievalReport before = Report(("q1", "a", "x"), ("q,2", "x", "a"), ("q3", "x", "y")), after = Report(("q3", "a", "y"), ("q,2", "a", "x"), ("q1", "x", "a"));
        before.WriteCsv(path);
        RetrievalReport read = RetrievalReport.ReadCsv(path);
        Assert.Equal(before.MetricNames, read.MetricNames);
        Assert.Equal(before.Averages, read.Averages);
        Assert.Equal(before.QueriesWithoutResults, read.QueriesWithoutResults);
        RunComparison comparison = RunComparison.Of(read, after);
        MetricComparison mrr = comparison.Metrics.Single(metric => metric.Metric == "mrr@2");
        // Reciprocal ranks before 1, 1/2, 0 and after 1/2, 1, 1: two wins, one loss, differences -1/2, 1/2, 1.
        Assert.Equal((2, 1, 0), (mrr.Wins, mrr.Losses, mrr.Ties));
        Assert.Equal((0.5, 2.5 / 3), (mrr.Baseline, mrr.Run));
        Assert.Equal(1 / 3.0, mrr.Difference, 1e-12);
        Assert.Equal([1, 0.5, -0.5], comparison.Differences("mrr@2"));
        // With 1 and both halves of one sign the sum is 2, with the halves against one another 1, with both halves against 1 it is 0: 6 of the 8 assignments reach 1.
        Assert.Equal(6 / 8.0, mrr.Randomization);
        Assert.Equal(Significance.TTest([-0.5, 0.5, 1]), mrr.TTest, 1e-12);
    }

    [Fact]
    public void Runs_over_other_queries_or_judgements_are_not_compared()
    {
        RetrievalReport run = Report(("q1", "a", "x"), ("q2", "x", "a"));
        Fails("it has no query \"q2\"", Report(("q1", "a", "x")), run);
        Fails("its query \"q2\" is not here", run, Report(("q1", "a", "x")));
        Fails("query \"q1\" had 2 relevant passages there, and has 1 here", Report(2, ("q1", "a", "x"), ("q2", "x", "a")), run);
        static void Fails(string why, RetrievalReport baseline, RetrievalReport run)
        {
            BgeMetalException e = Assert.Throws<BgeMetalException>(() => RunComparison.Of(baseline, run, baselineFile: "old.csv"));
            Assert.Contains(why, e.Message, StringComparison.Ordinal);
            Assert.Equal("old.csv", e.File);
        }
    }

    [Theory]
    [InlineData("id,relevant\n", 1, "the header query_id,relevant,retrieved and at least one measure was expected")]
    [InlineData("query_id,relevant,retrieved,map\n", 0, "it has no query")]
    [InlineData("query_id,relevant,retrieved,map,map\nq,1,1,1,1\n", 1, "the column map is there twice")]
    [InlineData("query_id,relevant,retrieved,map\nq,1,1,0.5\np,1,1\n", 3, "4 fields were expected, found 3")]
    [InlineData("query_id,relevant,retrieved,map\nq,1,1,high\n", 2, "map must be a number, found \"high\"")]
    [InlineData("query_id,relevant,retrieved,map\nq,1,1,NaN\n", 2, "map must be a number, found \"NaN\"")]
    [InlineData("query_id,relevant,retrieved,map\nq,one,1,0\n", 2, "relevant and retrieved must be whole numbers, found \"one\" and \"1\"")]
    [InlineData("query_id,relevant,retrieved,map\nq,1,1,0\nq,1,1,0\n", 3, "query \"q\" is there twice")]
    public void A_bad_line_of_measures_is_named(string content, long line, string why)
    {
        string path = Path.Combine(_folder, "queries.csv");
        File.WriteAllText(path, content);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => RetrievalReport.ReadCsv(path));
        Assert.Contains(why, e.Message, StringComparison.Ordinal);
        Assert.Equal((path, line), (e.File, e.Line));
    }

    private static RetrievalReport Report(params (string Query, string First, string Second)[] lists) => Report(1, lists);

    private static RetrievalReport Report(int relevant, params (string Query, string First, string Second)[] lists)
    {
        Judgements judgements = new();
        RetrievalRun run = new();
        foreach ((string query, string first, string second) in lists)
        {
            judgements.Add(query, "a", 1);
            if (relevant > 1) judgements.Add(query, "b", 1);
            run.Add(query, new RankedPassage[] { new(first, 2), new(second, 1) });
        }
        return RetrievalMetrics.Evaluate(judgements, run, [1, 2]);
    }

    /// <summary>Differences of a few sizes, so that sums are often equal.</summary>
    private static double[] Differences(int count, int seed, int zeros)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (random.Next(4) + 1) / 10.0 * (random.Next(3) == 0 ? -1 : 1)), .. new double[zeros]];
    }

    private static double Counted(double[] differences)
    {
        int[] tenths = [.. differences.Select(d => (int)Math.Round(d * 10)).Where(d => d != 0)];
        int observed = Math.Abs(tenths.Sum()), extreme = 0;
        for (int signs = 0; signs < 1 << tenths.Length; signs++)
        {
            int sum = 0;
            for (int i = 0; i < tenths.Length; i++) sum += (signs >> i & 1) == 0 ? tenths[i] : -tenths[i];
            if (Math.Abs(sum) >= observed) extreme++;
        }
        return (double)extreme / (1 << tenths.Length);
    }
}
