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
    [InlineData("q1\td1", "query id, passage id and relevance with tabs between them, or TREC's 4 fields, were expected, found 2 fields")]
    [InlineData("q1\td1\t1\t2\t3", "query id, passage id and relevance with tabs between them, or TREC's 4 fields, were expected, found 5 fields")]
    [InlineData("q1 d1 1", "query id, passage id and relevance with tabs between them, or TREC's 4 fields, were expected, found 3 fields")]
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

    [Fact]
    public void FlagEmbeddings_layout_loads_and_its_splits_share_the_corpus()
    {
        Write("corpus.jsonl", "{\"id\":\"d1\",\"title\":\"T\",\"text\":\"one\"}\n{\"id\":2,\"text\":\"two\"}\n");
        Write("dev_queries.jsonl", "{\"id\":\"q1\",\"text\":\"first\"}\n{\"id\":\"q2\",\"text\":\"not judged\"}\n");
        Write("dev_qrels.jsonl", "{\"qid\":\"q1\",\"docid\":\"d1\",\"relevance\":2}\n{\"qid\":\"q1\",\"docid\":2,\"relevance\":0}\n");
        Write("dl19_queries.jsonl", "{\"id\":\"7\",\"text\":\"other\"}\n");
        Write("dl19_qrels.jsonl", "{\"qid\":7,\"docid\":\"gone\",\"relevance\":1}\n");
        RetrievalDataset dev = RetrievalDataset.Load(_folder, "dev"), other = dev.OfSplit("dl19");
        Assert.Equal(["T one", "two"], dev.Corpus.Select(p => p.FullText));
        Assert.Equal("q1", Assert.Single(dev.Queries).Id);
        Assert.Equal((2, 0), (dev.Judgements.Of("q1")["d1"], dev.Judgements.Of("q1")["2"]));
        Assert.Same(dev.Corpus, other.Corpus);
        Assert.Equal(("dl19", "7", 1), (other.Split, Assert.Single(other.Queries).Id, other.UnknownPassages));
        Assert.Contains("there is no split \"test\", only: dev, dl19", Assert.Throws<BgeMetalException>(() => RetrievalDataset.Load(_folder)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"qid\":\"q\",\"docid\":\"d\"}", "\"relevance\" is missing: a whole number was expected")]
    [InlineData("{\"qid\":\"q\",\"docid\":\"d\",\"relevance\":0.5}", "\"relevance\" must be a whole number")]
    [InlineData("{\"docid\":\"d\",\"relevance\":1}", "\"qid\" is missing: a string was expected")]
    [InlineData("{\"qid\":\"q\",\"docid\":\"\",\"relevance\":1}", "the passage id is empty")]
    [InlineData("{\"qid\":\"q0\",\"docid\":\"d0\",\"relevance\":2}", "query \"q0\" and passage \"d0\" were judged 1 before and 2 here")]
    public void A_bad_judgement_in_json_is_named(string line, string message)
    {
        string path = Write("x_qrels.jsonl", "{\"qid\":\"q0\",\"docid\":\"d0\",\"relevance\":1}\n" + line);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Judgements.Read(path));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Equal((path, 2), (e.File, e.Line));
    }

    [Fact]
    public void Positive_passages_are_looked_up_by_their_text_as_eval_msmarco_does()
    {
        string corpus = Write("corpus.json", "{\"content\":\"one\"}\n{\"content\":\"two\"}\n{\"content\":\"one\"}\n{\"content\":\"four\"}\n");
        string queries = Write("msmarco.dev.json", "{\"query\":\"first\",\"positive\":[\"one\",\"four\",\"one\"]}\n{\"query\":\"second\",\"positive\":[]}\n{\"query\":\"third\",\"pos\":[\"gone\"]}\n");
        RetrievalDataset set = RetrievalDataset.LoadFiles(corpus, queries);
        Assert.Equal(("msmarco", ""), (set.Name, set.Split));
        Assert.Equal(["1", "2", "4"], set.Corpus.Select(p => p.Id));
        Assert.Equal([new RetrievalQuery("1", "first"), new RetrievalQuery("3", "third")], set.Queries);
        Assert.Equal(["1", "4"], set.Judgements.Of("1").Keys);
        Assert.Equal((1, 2), (set.UnknownPassages, set.Warnings.Count));

        // MRR and recall of the list two, four, one by eval_msmarco's own arithmetic: the first positive is at rank 2; one of two positives is among the first two.
        RetrievalRun run = new();
        run.Add("1", new RankedPassage[] { new("2", 3), new("4", 2), new("1", 1) });
        RetrievalReport report = RetrievalMetrics.Evaluate(set.Judgements, run, [1, 2, 10]);
        Assert.Equal([0.0, 0.5 / 2, 0.5 / 2], new[] { report["mrr@1"], report["mrr@2"], report["mrr@10"] });
        Assert.Equal([0.0, 0.5 / 2, 1.0 / 2], new[] { report["recall@1"], report["recall@2"], report["recall@10"] });
    }

    [Theory]
    [InlineData("\t")]
    [InlineData(" ")]
    public void Files_as_MS_MARCO_is_published_load(string separator)
    {
        string corpus = Write("collection.tsv", "11\tone\n12\tTitle\ttwo\n13\thttp://a.b/c\tTitle\tthree\n"), queries = Write("queries.dev.tsv", "1\tfirst\n2\tsecond\n");
        string judgements = Write("qrels.dev.tsv", string.Join(separator, "1", "0", "13", "1") + "\n" + string.Join(separator, "2", "Q0", "12", "3") + "\n");
        RetrievalDataset set = RetrievalDataset.LoadFiles(corpus, queries, judgements);
        Assert.Equal(["one", "Title two", "Title three"], set.Corpus.Select(p => p.FullText));
        Assert.Equal((1, 3), (set.Judgements.Of("1")["13"], set.Judgements.Of("2")["12"]));
        Assert.Equal(2, set.Queries.Count);
        Assert.Empty(set.Warnings);
    }

    [Theory]
    [InlineData("c.tsv", "1\ta\n2\n", "id and text with a tab between them were expected")]
    [InlineData("c.tsv", "1\ta\n1\tb\n", "\"_id\" \"1\" was already used in line 1")]
    [InlineData("c.jsonl", "{\"content\":\"a\"}\n{\"passage\":\"b\"}\n", "\"text\" is missing: a string was expected")]
    [InlineData("q.tsv", "1\ta\n2\tb\tc\n", "id and text with a tab between them were expected, found 3 fields")]
    [InlineData("q.jsonl", "{\"query\":\"a\",\"positive\":[\"x\"]}\n{\"query\":\"b\"}\n", "\"positive\" is missing: the list of the passages that answer the query was expected")]
    [InlineData("q.jsonl", "{\"query\":\"a\",\"positive\":[\"x\"]}\n{\"query\":\"b\",\"positive\":\"x\"}\n", "\"positive\" must be a list of strings, found a string")]
    public void A_bad_row_of_a_single_file_is_named(string name, string content, string message)
    {
        bool isCorpus = name[0] == 'c';
        string path = Write(name, content), other = isCorpus ? Write("queries.jsonl", "{\"query\":\"a\",\"positive\":[\"x\"]}\n") : Write("corpus.jsonl", "{\"content\":\"x\"}\n");
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => isCorpus ? RetrievalDataset.LoadFiles(path, other) : RetrievalDataset.LoadFiles(other, path));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Equal((path, 2), (e.File, e.Line));
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

    private string Write(string name, string content)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, content);
        return path;
    }
}
