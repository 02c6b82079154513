using System.Text.Json;
using System.Text.RegularExpressions;

namespace BgeMetal.Tests.Cli;

/// <summary>eval: what can be evaluated on, comparison with another run, the page.</summary>
public sealed partial class EvalCommandTests : CommandFolder
{
    [Fact]
    public void FlagEmbeddings_evaluation_command_runs_as_it_is()
    {
        string folder = WriteFlagEmbeddingSet("msmarco/passage");
        CliRun run = CliRun.Succeeds("eval", "--eval_name", "msmarco", "--dataset_dir", In("msmarco"), "--dataset_names", "passage", "--splits", "dev", "dl19", "--corpus_embd_save_dir", In("embd"),
            "--output_dir", In("results"), "--search_top_k", "3", "--rerank_top_k", "2", "--cache_path", In("cache"), "--overwrite", "True", "--k_values", "1", "10", "--eval_output_method", "markdown",
            "--eval_output_path", In("m.json"), "--eval_metrics", "ndcg_at_10", "recall_at_100", "--embedder_name_or_path", Model, "--reranker_name_or_path", Reranker, "--devices", "cpu",
            "--cache_dir", In("models"), "--reranker_query_max_length", "8", "--reranker_max_length", "16");
        JsonElement[] sets = [.. Json(In("m.json")).GetProperty("datasets").EnumerateArray()];
        Assert.Equal(["passage-dev", "passage-dl19"], sets.Select(set => set.GetProperty("data").GetString()));
        Assert.Equal(["dev", "dl19"], sets.Select(set => set.GetProperty("split").GetString()));
        Assert.Equal([2, 1], sets.Select(set => set.GetProperty("queries").GetInt32()));
        Assert.Equal(1, Regex.Count(run.Error, "corpus"));                // splits of a folder share its vectors

        // A folder of folders means all of them.
        WriteFlagEmbeddingSet("msmarco/document");
        CliRun.Succeeds("eval", "--model", Model, "--data", In("msmarco"), "--split", "dev", "--output", In("all.json"));
        Assert.Equal(["document", "passage"], Json(In("all.json")).GetProperty("datasets").EnumerateArray().Select(set => set.GetProperty("data").GetString()));
        Assert.Contains("there is no split \"test\", only: dev, dl19", CliRun.Of("eval", "--model", Model, "--data", folder).LastError, StringComparison.Ordinal);
    }

    [Fact]
    public void The_command_of_eval_msmarco_runs_as_it_is()
    {
        string corpus = File("corpus.json", "{\"content\": \"the cat sat on the mat\"}\n{\"content\": \"stars shine at night\"}\n{\"content\": \"the sea\"}\n");
        string queries = File("queries.json", "{\"query\": \"stars shine at night\", \"positive\": [\"stars shine at night\"]}\n{\"query\": \"the sea\", \"positive\": [\"the sea\", \"not there\"]}\n");
        CliRun run = CliRun.Succeeds("eval", "--encoder", Model, "--fp16", "--add_instruction", "False", "--k", "100", "--corpus_data", corpus, "--query_data", queries, "--max_query_length", "16",
            "--max_passage_length", "32", "--batch_size", "8", "--index_factory", "Flat", "--save_embedding", "False", "--output", In("m.json"));
        JsonElement metrics = Json(In("m.json")).GetProperty("average");
        Assert.Equal(["mrr@1", "mrr@10", "mrr@100"], metrics.EnumerateObject().Select(metric => metric.Name).Where(name => name.StartsWith("mrr", StringComparison.Ordinal)));
        Assert.Equal((1, 0.75), (metrics.GetProperty("mrr@1").GetDouble(), metrics.GetProperty("recall@1").GetDouble()));
        Assert.Contains("1 positive passages are not in", run.Error, StringComparison.Ordinal);
        string qrels = File("qrels.tsv", "1\t0\t2\t1\n2\t0\t1\t1\n");
        CliRun.Succeeds("eval", "--model", Model, "--corpus-data", corpus, "--query-data", queries, "--qrels", qrels, "--output", In("q.json"), "--instruction", "");
        Assert.Equal(0.5, Json(In("q.json")).GetProperty("average").GetProperty("mrr@1").GetDouble());
    }

    [Fact]
    public void A_run_is_compared_with_an_earlier_one_and_with_a_model()
    {
        string data = WriteSet("set"), other = TinyModel.Write(In("other"), seed: 5);
        CliRun.Succeeds("eval", "--model", other, "--data", data, "--k", "1,2", "--per-query", In("old.csv"), "--output", In("old.json"));
        CliRun fromFile = CliRun.Succeeds("eval", "--model", Model, "--data", data, "--k", "1,2", "--compare", In("old.csv"), "--output", In("file.json"), "--per-query", In("new.csv"));
        CliRun.Succeeds("eval", "--model", Model, "--data", data, "--k", "1,2", "--compare", other, "--output", In("model.json"));
        CliRun files = CliRun.Succeeds("eval", "--compare", In("old.csv"), In("new.csv"), "--output", In("files.json"));
        Assert.Contains("p (randomisation)", fromFile.Error, StringComparison.Ordinal);
        Assert.Contains("p (t-test)", files.Error, StringComparison.Ordinal);
        JsonElement[] comparisons = [.. ((string[])["file.json", "model.json", "files.json"]).Select(name => Json(In(name)).GetProperty("datasets")[0].GetProperty("comparison").GetProperty("metrics"))];
        Assert.All(comparisons, metrics => Assert.Equal(comparisons[0].GetRawText(), metrics.GetRawText()));
        JsonElement mrr = comparisons[0].GetProperty("mrr@2");
        Assert.Equal(Json(In("old.json")).GetProperty("average").GetProperty("mrr@2").GetDouble(), mrr.GetProperty("baseline").GetDouble());
        Assert.Equal(3, mrr.GetProperty("better").GetInt32() + mrr.GetProperty("worse").GetInt32() + mrr.GetProperty("equal").GetInt32());
        Assert.InRange(mrr.GetProperty("p_randomization").GetDouble(), 0.25, 1);                 // of three differences
    }

    [Fact]
    public void Instructions_in_a_format_are_those_written_out()
    {
        string[] eval = ["eval", "--model", Model, "--data", WriteSet("set"), "--reranker", Reranker];
        CliRun.Succeeds([.. eval, "--query_instruction_for_retrieval", "the", "--query_instruction_format_for_retrieval", "a {}: {}", "--run", In("format.txt")]);
        CliRun.Succeeds([.. eval, "--instruction", "a the: ", "--run", In("written.txt")]);
        Assert.Equal(System.IO.File.ReadAllText(In("written.txt")), System.IO.File.ReadAllText(In("format.txt")));
        CliRun.Fails(1, ["the text was expected at its end"], [.. eval, "--instruction", "the", "--query-instruction-format", "{1} {0}"]);

        string pairs = File("pairs.jsonl", "{\"query\": \"cat\", \"passages\": [\"sat\", \"sea\"]}\n"), written = File("written.jsonl", "{\"query\": \"the cat\", \"passages\": [\"on a sat\", \"on a sea\"]}\n");
        string expected = CliRun.Succeeds("rerank", "--model", Reranker, "--input", written).Output;
        Assert.Equal(expected, CliRun.Succeeds("rerank", "--model", Reranker, "--input", pairs, "--query_instruction_for_rerank", "the ", "--passage_instruction_for_rerank", "on",
            "--passage_instruction_format_for_rerank", "{} a {}").Output);
        Assert.NotEqual(expected, CliRun.Succeeds("rerank", "--model", Reranker, "--input", pairs).Output);
    }

    [Fact]
    public void What_the_reranker_does_not_see_stays_behind_what_it_reordered()
    {
        string[] eval = ["eval", "--model", Model, "--data", WriteSet("set"), "--k", "1,3"], reranked = [.. eval, "--reranker", Reranker, "--rerank-top-k"];
        CliRun.Succeeds([.. eval, "--run", In("search.txt"), "--output", In("search.json")]);
        CliRun.Succeeds([.. reranked, "1", "--run", In("one.txt"), "--output", In("one.json")]);
        CliRun.Succeeds([.. reranked, "2", "--run", In("two.txt"), "--output", In("two.json")]);
        CliRun.Succeeds([.. reranked, "3", "--run", In("all.txt")]);
        // The first alone cannot change places; of two, the third stays the third.
        Assert.Equal(Hits("search.txt").Select(hit => hit.Passage), Hits("one.txt").Select(hit => hit.Passage));
        Assert.Equal(Json(In("search.json")).GetProperty("average").GetRawText(), Json(In("one.json")).GetProperty("average").GetRawText());
        Assert.Equal(1, Json(In("two.json")).GetProperty("average").GetProperty("recall@3").GetDouble());
        foreach ((string query, List<(string Query, string Passage, float Score)> two) in Hits("two.txt").GroupBy(hit => hit.Query).Select(list => (list.Key, list.ToList())))
        {
            string[] search = Of("search.txt"), all = Of("all.txt");
            Assert.Equal([.. all.Where(search[..2].Contains), search[2]], two.Select(hit => hit.Passage));
            Assert.Equal(two.OrderByDescending(hit => hit.Score), two);
            Assert.True(two[2].Score < two[1].Score, "the order must not hang on ids");
            string[] Of(string file) => [.. Hits(file).Where(hit => hit.Query == query).Select(hit => hit.Passage)];
        }

        (string Query, string Passage, float Score)[] Hits(string file) => [.. System.IO.File.ReadLines(In(file)).Select(line => line.Split(' '))
            .Select(fields => (fields[0], fields[2], float.Parse(fields[4], System.Globalization.CultureInfo.InvariantCulture)))];
    }

    [Fact]
    public void The_help_shows_lists_as_they_are_typed()
    {
        Assert.Contains("[default: 1,5,10,100]", CliRun.Succeeds("eval", "--help").Output, StringComparison.Ordinal);
        string finetune = CliRun.Succeeds("finetune", "--help").Output;
        Assert.Contains("64,128,256,512,768,1024,1536,2048,2560,3072,3584,4096]", finetune, StringComparison.Ordinal);
        Assert.DoesNotMatch(@"\d\|\d", finetune);
        CliRun.Succeeds("eval", "--model", Model, "--data", WriteSet("set"), "--output", In("default.json"));
        Assert.Equal(["ndcg@1", "ndcg@5", "ndcg@10", "ndcg@100"], Json(In("default.json")).GetProperty("average").EnumerateObject().Select(metric => metric.Name).Where(name => name.StartsWith("ndcg", StringComparison.Ordinal)));
    }

    [Fact]
    public void Sets_of_the_same_name_are_told_apart_and_compared_each_with_its_own_file()
    {
        string[] eval = ["eval", "--model", Model, "--data", WriteSet("x/set"), WriteSet("y/set"), "--k", "1", "--output", In("m.json")];
        CliRun.Succeeds([.. eval, "--per-query", In("q.csv")]);
        Assert.Equal(["q.csv.set-2.csv", "q.csv.set.csv"], Directory.GetFiles(Folder, "q.csv*").Select(Path.GetFileName).Order(StringComparer.Ordinal));
        CliRun.Succeeds([.. eval, "--compare", In("q.csv")]);
        foreach (JsonElement set in Json(In("m.json")).GetProperty("datasets").EnumerateArray())
        {
            JsonElement map = set.GetProperty("comparison").GetProperty("metrics").GetProperty("map");
            Assert.Equal((0.0, 3, 1.0, 1.0), (map.GetProperty("difference").GetDouble(), map.GetProperty("equal").GetInt32(), map.GetProperty("p_t_test").GetDouble(), map.GetProperty("p_randomization").GetDouble()));
        }
    }

    [Fact]
    public void What_cannot_be_compared_is_refused_before_anything_is_computed()
    {
        string data = WriteSet("set"), csv = File("other.csv", "query_id,relevant,retrieved,map\nq9,1,3,0.5\n");
        CliRun.Fails(1, ["cannot compare", "it has no query \"q0\"", "other.csv"], "eval", "--model", In("nowhere"), "--data", data, "--compare", csv);
        CliRun.Fails(1, ["there is no such file", "gone.csv"], "eval", "--model", In("nowhere"), "--data", data, "--compare", In("gone.csv"));
        CliRun.Fails(2, ["found 3"], "eval", "--model", Model, "--data", data, "--compare", csv, csv, csv);
        CliRun.Fails(2, ["leave --model and the data out"], "eval", "--model", Model, "--data", data, "--compare", csv, csv);
        CliRun.Fails(2, ["--per-query"], "eval", "--compare", csv, csv, "--per-query", In("x.csv"));
        CliRun.Fails(2, ["--model"], "eval", "--data", data);
        CliRun.Fails(2, ["--data", "--corpus-data"], "eval", "--model", Model);
        CliRun.Fails(2, ["--data and --corpus-data exclude each other"], "eval", "--model", Model, "--data", data, "--corpus-data", csv, "--query-data", csv);
        CliRun.Fails(2, ["given together"], "eval", "--model", Model, "--corpus-data", csv);
        CliRun.Fails(2, ["--qrels needs"], "eval", "--model", Model, "--data", data, "--qrels", csv);
        CliRun.Fails(2, ["--add-instruction and --instruction exclude each other"], "eval", "--model", Model, "--data", data, "--add-instruction", "--instruction", "x");
    }

    [Fact]
    public void The_page_stands_alone_escapes_texts_and_is_the_same_again()
    {
        string data = WriteSet("a<b>&c"), other = TinyModel.Write(In("other"), seed: 5);
        string[] eval = ["eval", "--model", Model, "--data", data, WriteSet("plain"), "--k", "1,10", "--compare", other, "--instruction", "<script>alert(1)</script>"];
        CliRun.Succeeds([.. eval, "--report", In("page.html")]);
        CliRun.Succeeds([.. eval, "--report", In("again.html"), "--threads", "1"]);
        string page = System.IO.File.ReadAllText(In("page.html"));
        Assert.Equal(page, System.IO.File.ReadAllText(In("again.html")));
        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("&lt;script&gt;alert(1)&lt;/script&gt;", page, StringComparison.Ordinal);
        Assert.Contains("<h2>a&lt;b&gt;&amp;c</h2>", page, StringComparison.Ordinal);
        Assert.Contains("<td>a &lt;dog&gt; &amp; &quot;cat&quot;</td>", page, StringComparison.Ordinal);
        Assert.Contains("<th class=\"n\">average</th>", page, StringComparison.Ordinal);
        Assert.Contains("p (randomisation)", page, StringComparison.Ordinal);
        Assert.All(Reference().Matches(page), match => Assert.StartsWith("data:image/svg+xml;base64,", match.Groups[1].Value, StringComparison.Ordinal));
        string[] pictures = [.. Reference().Matches(page).Select(match => System.Text.Encoding.UTF8.GetString(Convert.FromBase64String(match.Groups[1].Value["data:image/svg+xml;base64,".Length..])))];
        Assert.Equal(4, pictures.Length);
        Assert.All(pictures, picture => Assert.Equal("svg", System.Xml.Linq.XDocument.Parse(picture).Root!.Name.LocalName));
        Assert.Contains("nDCG@10", pictures[0], StringComparison.Ordinal);
        Assert.DoesNotContain("://", Reference().Replace(page, ""), StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Folder, ".*"));
    }

    private string WriteSet(string name)
    {
        File(name + "/corpus.jsonl", "{\"_id\": \"p0\", \"text\": \"the cat sat on the mat\"}\n{\"_id\": \"p1\", \"text\": \"stars shine at night\"}\n{\"_id\": \"p2\", \"text\": \"the sea\"}\n");
        File(name + "/queries.jsonl", "{\"_id\": \"q0\", \"text\": \"stars at night\"}\n{\"_id\": \"q1\", \"text\": \"a <dog> & \\\"cat\\\"\"}\n{\"_id\": \"q2\", \"text\": \"ship\"}\n");
        File(name + "/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq0\tp1\t1\nq1\tp0\t1\nq2\tp2\t2\n");
        return In(name);
    }

    private string WriteFlagEmbeddingSet(string name)
    {
        File(name + "/corpus.jsonl", "{\"id\": \"p0\", \"title\": \"\", \"text\": \"the cat sat on the mat\"}\n{\"id\": \"p1\", \"text\": \"stars shine at night\"}\n");
        File(name + "/dev_queries.jsonl", "{\"id\": \"q0\", \"text\": \"stars\"}\n{\"id\": \"q1\", \"text\": \"cat\"}\n");
        File(name + "/dev_qrels.jsonl", "{\"qid\": \"q0\", \"docid\": \"p1\", \"relevance\": 1}\n{\"qid\": \"q1\", \"docid\": \"p0\", \"relevance\": 1}\n");
        File(name + "/dl19_queries.jsonl", "{\"id\": \"q0\", \"text\": \"night\"}\n");
        File(name + "/dl19_qrels.jsonl", "{\"qid\": \"q0\", \"docid\": \"p1\", \"relevance\": 3}\n");
        return In(name);
    }

    private static JsonElement Json(string path) => JsonDocument.Parse(System.IO.File.ReadAllText(path)).RootElement;

    [GeneratedRegex("(?:src|href)=\"([^\"]*)\"")]
    private static partial Regex Reference();
}
