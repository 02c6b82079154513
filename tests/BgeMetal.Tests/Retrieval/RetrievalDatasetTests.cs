using BgeMetal.Retrieval;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Retrieval;

public sealed class RetrievalDatasetTests : IDisposable
{
    private const string Corpus = "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"one\"}\n{\"_id\":\"d2\",\"text\":\"\"}\n{\"_id\":3,\"title\":null,\"text\":\" three \"}\n";
    private const string Queries = "{\"_id\":\"q1\",\"text\":\"first\"}\n\n{\"_id\":\"q2\",\"text\":\"second\"}\n{\"_id\":\"q3\",\"text\":\"of another split\"}\n";
    private const string Header = "query-id\tcorpus-id\tscore\n";

    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private RetrievalDataset Load(string qrels, string corpus = Corpus, string queries = Queries, string split = "test")
    {
        Directory.CreateDirectory(Path.Combine(_folder, "qrels"));
        File.WriteAllText(Path.Combine(_folder, "corpus.jsonl"), corpus);
        File.WriteAllText(Path.Combine(_folder, "queries.jsonl"), queries);
        File.WriteAllText(Path.Combine(_folder, "qrels", "test.tsv"), qrels);
        return RetrievalDataset.Load(_folder, split);
    }

    [Fact]
    public void A_small_set_loads_with_the_queries_of_its_split()
    {
        RetrievalDataset set = Load(Header + "q1\td1\t2\r\nq1\td2\t0\n\nq2\t3\t1\n");
        Assert.Equal(["T one", "", "three"], set.Corpus.Select(p => p.FullText));
        Assert.Equal(["d1", "d2", "3"], set.Corpus.Select(p => p.Id));
        Assert.Equal([new RetrievalQuery("q1", "first"), new RetrievalQuery("q2", "second")], set.Queries);
        Assert.Equal(3, set.Judgements.Count);
        Assert.Equal(2, set.Judgements.Of("q1")["d1"]);
        Assert.Equal(("test", Path.GetFileName(_folder)), (set.Split, set.Name));
        Assert.Empty(set.Warnings);
    }

    [Fact]
    public void Judgements_without_a_header_lose_no_line() => Assert.Equal(2, Load("q1\td1\t1\nq2\td2\t1").Judgements.Count);

    [Fact]
    public void Unknown_ids_are_counted_and_a_passage_that_is_not_there_still_counts_as_relevant()
    {
        RetrievalDataset set = Load(Header + "q1\td1\t1\nq1\tgone\t1\nq9\td1\t1\n");
        Assert.Equal((1, 1, 2), (set.UnknownPassages, set.UnknownQueries, set.Warnings.Count));
        Assert.Equal("q1", Assert.Single(set.Queries).Id);
        RetrievalRun run = new();
        run.Add("q1", new RankedPassage[] { new("d1", 1) });
        Assert.Equal(0.5, RetrievalMetrics.Evaluate(set.Judgements, run, [10])["recall@10"], 1e-12);
    }

    [Theory]
    [InlineData("q1\td1", "3 fields with tabs between them were expected (query id, passage id, relevance), found 2")]
    [InlineData("q1\td1\t1\t2", "3 fields with tabs between them were expected (query id, passage id, relevance), found 4")]
    [InlineData("q1 d1 1", "3 fields with tabs between them were expected (query id, passage id, relevance), found 1")]
    [InlineData("q1\td1\t0.5", "the relevance must be a whole number, found \"0.5\"")]
    [InlineData("q1\td1\t99999999999", "the relevance must be a whole number, found \"99999999999\"")]
    [InlineData("\td1\t1", "the query id is empty")]
    [InlineData("q1\t\t1", "the passage id is empty")]
    public void A_bad_judgement_is_named(string line, string message)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Load(Header + line));
        Assert.Equal($"bad input: {message} ({Path.Combine(_folder, "qrels", "test.tsv")}:2)", e.Message);
    }

    [Fact]
    public void The_same_judgement_twice_is_fine_and_a_contradiction_is_not()
    {
        Assert.Equal(1, Load(Header + "q1\td1\t1\nq1\td1\t1\n").Judgements.Count);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Load(Header + "q1\td1\t1\nq1\td1\t2\n"));
        Assert.Contains("query \"q1\" and passage \"d1\" were judged 1 before and 2 here", e.Message, StringComparison.Ordinal);
        Assert.Equal(3, e.Line);
    }

    [Theory]
    [InlineData("corpus.jsonl", "{\"_id\":\"d1\",\"text\":\"a\"}\n{\"_id\":\"d1\",\"text\":\"b\"}", "\"_id\" \"d1\" was already used in line 1", 2)]
    [InlineData("corpus.jsonl", "{\"text\":\"a\"}", "\"_id\" is missing: a string was expected", 1)]
    [InlineData("corpus.jsonl", "{\"_id\":\"d1\"}", "\"text\" is missing: a string was expected", 1)]
    [InlineData("corpus.jsonl", "{\"_id\":\"d1\",\"title\":1,\"text\":\"a\"}", "\"title\" must be a string, found a number", 1)]
    [InlineData("corpus.jsonl", "\n", "the file has no rows", 0)]
    [InlineData("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"a\"}\n{\"_id\":\"q1\",\"text\":\"b\"}", "\"_id\" \"q1\" was already used in line 1", 2)]
    [InlineData("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"a\"}\n{\"_id\":\"q2\",", "not valid JSON", 2)]
    [InlineData("queries.jsonl", "{\"_id\":\"other\",\"text\":\"a\"}", "none of the 1 judged queries is in", 0)]
    public void A_bad_row_is_named(string file, string content, string message, long line)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() =>
            file == "corpus.jsonl" ? Load(Header + "q1\td1\t1\n", corpus: content) : Load(Header + "q1\td1\t1\n", queries: content));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Equal(line, e.Line);
        if (line > 0) Assert.EndsWith($"{file}:{line})", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_missing_is_named()
    {
        Assert.Contains("there is no split \"dev\", only: test", Assert.Throws<BgeMetalException>(() => Load(Header + "q1\td1\t1\n", split: "dev")).Message, StringComparison.Ordinal);
        Assert.Contains("the file has none", Assert.Throws<BgeMetalException>(() => Load(Header)).Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_folder, "queries.jsonl"));
        Assert.Contains("it has no queries.jsonl and no queries.jsonl.gz", Assert.Throws<BgeMetalException>(() => RetrievalDataset.Load(_folder)).Message, StringComparison.Ordinal);
        Assert.Contains("there is no such folder", Assert.Throws<BgeMetalException>(() => RetrievalDataset.Load(Path.Combine(_folder, "none"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("squad-en", 646, 833)]
    [InlineData("cmrc-zh", 848, 960)]
    [InlineData("drcd-zh-hant", 1000, 1093)]
    [InlineData("pubmedqa-en", 700, 210)]
    [InlineData("cranfield-en", 1400, 1612)]
    [InlineData("npl-en", 11426, 2083)]
    public void The_published_sets_load(string name, int passages, int judgements)
    {
        RetrievalDataset set = RetrievalDataset.Load(SharedFolder.DataOrSkip("retrieval", name));
        Assert.Equal((passages, judgements), (set.Corpus.Count, set.Judgements.Count));
        Assert.Empty(set.Warnings);
        Assert.Equal(name == "cranfield-en" ? 2 : 0, set.Corpus.Count(p => p.FullText.Length == 0));
        RetrievalRun perfect = new();
        foreach (RetrievalQuery query in set.Queries) perfect.Add(query.Id, set.Judgements.Of(query.Id).Select(p => new RankedPassage(p.Key, p.Value)));
        Assert.Equal(1, RetrievalMetrics.Evaluate(set.Judgements, perfect, [10])["ndcg@10"], 1e-12);
    }
}
