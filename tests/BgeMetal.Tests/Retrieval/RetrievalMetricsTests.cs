using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Retrieval;

public sealed class RetrievalMetricsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static RetrievalReport Evaluate(string judgements, string run, params int[] ks) => Evaluate(judgements, run, false, ks);

    /// <summary>Judgements "q:passage=relevance ..", run "q:passage=score ..".</summary>
    private static RetrievalReport Evaluate(string judgements, string run, bool ignoreIdenticalIds, int[] ks)
    {
        Judgements judged = new();
        foreach ((string q, string p, string v) in Split(judgements)) judged.Add(q, p, int.Parse(v, null));
        RetrievalRun results = new();
        foreach (IGrouping<string, (string Q, string P, string V)> list in Split(run).GroupBy(x => x.Q))
            results.Add(list.Key, list.Select(x => new RankedPassage(x.P, float.Parse(x.V, System.Globalization.CultureInfo.InvariantCulture))));
        return RetrievalMetrics.Evaluate(judged, results, ks, ignoreIdenticalIds);
    }

    private static IEnumerable<(string Q, string P, string V)> Split(string text) =>
        text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(t => t.Split(':', '=')).Select(f => (f[0], f[1], f[2]));

    // One query with the relevances a=3, b=2, c=1, z=0 (R = 3) and the list c x a z, gains 1 0 3 0.
    //   dcg@1 = 1                            ideal@1 = 3                              ndcg@1 = 1/3
    //   dcg@3 = 1 + 0 + 3/log2(4) = 2.5      ideal@3 = 3 + 2/log2(3) + 1/log2(4)
    //                                                = 3 + 1.26185951 + 0.5           ndcg@3 = 2.5 / 4.76185951 = 0.52500499
    //   dcg@10 = 2.5, ideal@10 = ideal@3
    //   first relevant rank 1; hits 1 1 2 2; average precision (1/1 + 2/3) / 3 = 5/9, up to rank 1 only 1/3
    [Theory]
    [InlineData("ndcg@1", 1.0 / 3)]
    [InlineData("ndcg@3", 0.52500499)]
    [InlineData("ndcg@10", 0.52500499)]
    [InlineData("mrr@1", 1)]
    [InlineData("recall@1", 1.0 / 3)]
    [InlineData("recall@3", 2.0 / 3)]
    [InlineData("recall@10", 2.0 / 3)]
    [InlineData("map@1", 1.0 / 3)]
    [InlineData("map@3", 5.0 / 9)]
    [InlineData("map", 5.0 / 9)]
    [InlineData("precision@1", 1)]
    [InlineData("precision@3", 2.0 / 3)]
    [InlineData("precision@10", 0.2)]
    [InlineData("hit_rate@1", 1)]
    public void A_graded_query_has_the_values_computed_by_hand(string metric, double expected) =>
        Assert.Equal(expected, Evaluate("q:a=3 q:b=2 q:c=1 q:z=0", "q:c=0.9 q:x=0.8 q:a=0.7 q:z=0.6", 1, 3, 10)[metric], 1e-8);

    // R = 4 with relevance 1 each, two of them found at ranks 2 and 5 of 5:
    //   dcg@5 = 1/log2(3) + 1/log2(6) = 0.63092975 + 0.38685281 = 1.01778256
    //   ideal@5 = 1 + 0.63092975 + 0.5 + 0.43067656 = 2.56160631     ndcg@5 = 0.39732201
    //   ideal@2 = 1.63092975, dcg@2 = 0.63092975                     ndcg@2 = 0.38685281
    //   average precision (1/2 + 2/5) / 4 = 0.225; mrr@1 = 0, mrr@2 = 1/2
    [Theory]
    [InlineData("ndcg@5", 0.39732201)]
    [InlineData("ndcg@2", 0.38685281)]
    [InlineData("ndcg@1", 0)]
    [InlineData("mrr@1", 0)]
    [InlineData("mrr@2", 0.5)]
    [InlineData("mrr@5", 0.5)]
    [InlineData("recall@2", 0.25)]
    [InlineData("recall@5", 0.5)]
    [InlineData("map", 0.225)]
    [InlineData("map@2", 0.125)]
    [InlineData("precision@5", 0.4)]
    [InlineData("hit_rate@1", 0)]
    [InlineData("hit_rate@2", 1)]
    public void A_half_found_query_has_the_values_computed_by_hand(string metric, double expected) =>
        Assert.Equal(expected, Evaluate("q:a=1 q:b=1 q:c=1 q:d=1", "q:v=5 q:a=4 q:w=3 q:x=2 q:b=1", 1, 2, 5)[metric], 1e-8);

    [Fact]
    public void A_perfect_list_scores_one_and_unjudged_and_negative_passages_gain_nothing()
    {
        RetrievalReport report = Evaluate("q:a=2 q:b=1 q:n=-1", "q:a=3 q:b=2 q:n=1 q:u=0", 2, 4);
        Assert.All((string[])["ndcg@2", "ndcg@4", "mrr@2", "recall@2", "map", "precision@2"], m => Assert.Equal(1, report[m], 1e-12));
        Assert.Equal(0.5, report["precision@4"], 1e-12);
        Assert.Equal((2, 4), (report.Queries[0].Relevant, report.Queries[0].Retrieved));
    }

    [Fact]
    public void A_query_without_results_or_without_relevant_passages_counts_zero_as_with_trec_eval_c()
    {
        RetrievalReport report = Evaluate("found:a=1 lost:a=1 hopeless:a=0", "found:a=1 hopeless:a=1 unjudged:a=1", 1);
        Assert.Equal(["found", "lost", "hopeless"], report.Queries.Select(q => q.QueryId));
        Assert.Equal(1 / 3.0, report["ndcg@1"], 1e-12);
        Assert.Equal((1, 1), (report.QueriesWithoutRelevant, report.QueriesWithoutResults));
        Assert.All(report.Queries.Skip(1).SelectMany(q => q.Values), v => Assert.Equal(0, v));
    }

    [Fact]
    public void Equal_scores_are_ranked_by_descending_id_as_trec_eval_ranks_them()
    {
        Assert.Equal(0.5, Evaluate("q:b=1", "q:a=1 q:b=1 q:c=1", 3)["mrr@3"], 1e-12);
        RetrievalRun run = new();
        // UTF-8 puts U+1F600 (F0 ..) behind U+FF5E (EF ..); UTF-16 would not.
        run.Add("q", new RankedPassage[] { new("d9", 1), new("～", 1), new("d10", 1), new("😀", 1), new("x", float.NaN), new("top", 2), new("d", 1), new("low", float.NegativeInfinity) });
        Assert.Equal(["top", "😀", "～", "d9", "d10", "d", "low", "x"], run.Of("q").Select(p => p.Id));
    }

    [Fact]
    public void The_querys_own_passage_can_be_left_out()
    {
        Assert.Equal(0.5, Evaluate("a:b=1", "a:a=9 a:b=1", 2)["mrr@2"], 1e-12);
        Assert.Equal(1, Evaluate("a:b=1", "a:a=9 a:b=1", true, [2])["mrr@2"], 1e-12);
    }

    [Fact]
    public void Cutoffs_are_checked_and_sorted()
    {
        Assert.Throws<ArgumentException>(() => Evaluate("q:a=1", "q:a=1"));
        Assert.Throws<ArgumentException>(() => Evaluate("q:a=1", "q:a=1", 0));
        Assert.Equal(["ndcg@1", "ndcg@5"], Evaluate("q:a=1", "q:a=1", 5, 1, 5).MetricNames.Take(2));
        Assert.Contains("no query has a relevant passage", Assert.Throws<BgeMetalException>(() => Evaluate("q:a=0", "q:a=1", 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_list_with_a_passage_twice_is_refused()
    {
        RetrievalRun run = new();
        Assert.Throws<ArgumentException>(() => run.Add("q", new RankedPassage[] { new("a", 1), new("a", 2) }));
        run.Add("q", Array.Empty<RankedPassage>());
        Assert.Throws<ArgumentException>(() => run.Add("q", Array.Empty<RankedPassage>()));
    }

    [Fact]
    public void A_run_survives_the_trec_format()
    {
        RetrievalRun run = new();
        run.Add("q1", new RankedPassage[] { new("b", 0.1f), new("a", 1f / 3), new("中", 1e-20f) });
        run.Add("q0", new RankedPassage[] { new("a", -1) });
        string path = Path.Combine(_folder, "run.trec");
        run.WriteTrec(path, "tag");
        Assert.Equal("q1 Q0 a 1 0.33333334 tag\nq1 Q0 b 2 0.1 tag\nq1 Q0 中 3 1E-20 tag\nq0 Q0 a 1 -1 tag\n", File.ReadAllText(path));
        RetrievalRun read = RetrievalRun.ReadTrec(path);
        Assert.Equal(["q1", "q0"], read.Queries);
        Assert.Equal(run.Of("q1"), read.Of("q1"));
    }

    [Theory]
    [InlineData("q Q0 a 1 0.5", "6 fields were expected (query Q0 passage rank score tag), found 5")]
    [InlineData("q Q0 a 1 high tag", "the score must be a number, found \"high\"")]
    [InlineData("q Q0 a 1 2 tag\nq Q0 a 2 1 tag", "passage \"a\" is twice in the list of query \"q\"")]
    public void A_bad_run_line_is_named(string content, string message)
    {
        string path = Path.Combine(_folder, "bad.trec");
        File.WriteAllText(path, "\n" + content);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => RetrievalRun.ReadTrec(path));
        Assert.Equal($"bad input: {message} ({path}:{content.Split('\n').Length + 1})", e.Message);
    }

    [Fact]
    public void An_id_with_a_space_cannot_be_written_as_trec()
    {
        RetrievalRun run = new();
        run.Add("q 1", new RankedPassage[] { new("a", 1) });
        Assert.Contains("\"q 1\" is empty or holds white space", Assert.Throws<BgeMetalException>(() => run.WriteTrec(Path.Combine(_folder, "x"))).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Fact]
    public void The_report_is_written_as_json_and_csv()
    {
        RetrievalReport report = Evaluate("q1:a=1 q,2:a=1 q3:a=0 q4:a=1", "q1:a=1 q,2:b=2 q,2:a=1 q4:a=1", 1);
        report.WriteJson(Path.Combine(_folder, "metrics.json"), [new("model", "bge"), new("data", "中文")]);
        report.WriteCsv(Path.Combine(_folder, "queries.csv"));
        Assert.Equal("""
            {
              "model": "bge",
              "data": "中文",
              "queries": 4,
              "queries_without_relevant": 1,
              "queries_without_results": 1,
              "metrics": {
                "ndcg@1": 0.5,
                "mrr@1": 0.5,
                "recall@1": 0.5,
                "map@1": 0.5,
                "precision@1": 0.5,
                "hit_rate@1": 0.5,
                "map": 0.625
              }
            }

            """.ReplaceLineEndings("\n"), File.ReadAllText(Path.Combine(_folder, "metrics.json")));
        Assert.Equal("query_id,relevant,retrieved,ndcg@1,mrr@1,recall@1,map@1,precision@1,hit_rate@1,map\nq1,1,1,1,1,1,1,1,1,1\n\"q,2\",1,2,0,0,0,0,0,0,0.5\nq3,0,0,0,0,0,0,0,0,0\nq4,1,1,1,1,1,1,1,1,1\n",
            File.ReadAllText(Path.Combine(_folder, "queries.csv")));
    }
}
