using System.Globalization;
using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Cli;

public sealed class CommandTests : CommandFolder
{
    private static readonly string[] s_texts = ["the cat sat on the mat", "a dog", "", "the ship sails the sea", "stars shine at night"];

    private string Texts => File("texts.txt", string.Join('\n', s_texts) + "\n");

    [Fact]
    public void Embed_writes_the_librarys_vectors_in_order()
    {
        CliRun.Succeeds("embed", "--model", Model, "--input", Texts, "--output", In("v.npy"), "--quiet");
        NpyMatrix written = NpyFile.Read(In("v.npy"));
        using Embedder embedder = Embedder.Load(Model);
        Assert.Equal([s_texts.Length, TinyModel.HiddenSize], [written.Rows, written.Columns]);
        Assert.Equal(embedder.EmbedPassages(s_texts).SelectMany(v => v), written.Values);
    }

    [Fact]
    public void Embed_prints_json_lines_that_read_back_exactly()
    {
        string input = File("in.jsonl", "{\"id\": \"x\", \"text\": \"a dog\"}\n{\"text\": \"the \\u732b\", \"id\": 7}\n{\"input_ids\": [2, 10, 7, 3]}\n");
        CliRun run = CliRun.Succeeds("embed", "--model", Model, "--input", input);
        JsonElement[] rows = Rows(run.Output);
        Assert.Equal(["x", "7", null], rows.Select(r => r.GetProperty("id").GetString()));
        using Embedder embedder = Embedder.Load(Model);
        Assert.Equal(embedder.EmbedPassages(["a dog"])[0], rows[0].GetProperty("embedding").EnumerateArray().Select(v => v.GetSingle()));
        Assert.Equal(rows[0].GetProperty("embedding").ToString(), rows[2].GetProperty("embedding").ToString());
        Assert.Contains("embedded 3 texts", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Embed_takes_foreign_options()
    {
        CliRun run = CliRun.Succeeds("embed", "--model_name_or_path", Model, "--input", Texts, "--fp16", "True", "--normlized", "False", "--sentence_pooling_method", "mean",
            "--query_instruction_for_retrieval", "the ", "--batch_size", "256", "--output", In("v.npy"));
        using Embedder embedder = Embedder.Load(Model, new EmbedderOptions { Pooling = BgeMetal.Checkpoints.PoolingMode.Mean, Normalize = false });
        Assert.Equal(embedder.EmbedPassages([.. s_texts.Select(t => "the " + t)]).SelectMany(v => v), NpyFile.Read(In("v.npy")).Values);
        Assert.Equal(["warning: --batch_size has no meaning here and is ignored", "warning: --fp16: the CPU computes in fp32"],
            run.Error.Split('\n').Where(l => l.StartsWith("warning", StringComparison.Ordinal)).Select(l => l.TrimEnd('\r')));
    }

    [Fact]
    public void Embed_cuts_to_dimensions_and_normalises_again()
    {
        CliRun.Succeeds("embed", "--model", Model, "--input", Texts, "--dimensions", "5", "--output", In("v.npy"), "--quiet");
        NpyMatrix cut = NpyFile.Read(In("v.npy"));
        Assert.Equal(5, cut.Columns);
        Assert.All(cut.Values.Chunk(5), row => Assert.Equal(1, Math.Sqrt(row.Sum(x => (double)x * x)), 1e-6));
    }

    [Fact]
    public void An_empty_input_gives_an_empty_matrix()
    {
        CliRun.Succeeds("embed", "--model", Model, "--input", File("none.jsonl", "\n"), "--output", In("v.npy"));
        Assert.Equal(0, NpyFile.Read(In("v.npy")).Rows);
    }

    [Fact]
    public void Bad_lines_are_counted_and_skipped_on_demand()
    {
        string input = File("in.jsonl", "{\"text\": \"a dog\"}\n{\"text\": \n{\"text\": 5}\n{\"text\": \"the cat\"}\n{\"input_ids\": [2, 9999]}\n");
        CliRun run = CliRun.Succeeds("embed", "--model", Model, "--input", input, "--skip-invalid");
        Assert.Equal(2, Rows(run.Output).Length);
        Assert.Contains("warning: 2 bad lines skipped; the first: ", run.Error, StringComparison.Ordinal);
        Assert.Contains("in.jsonl:2", run.Error, StringComparison.Ordinal);
        Assert.Contains("warning: 1 row of tokens that the model cannot take skipped; the first: " + input + ":5", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Statistics_tell_texts_tokens_time_and_place()
    {
        CliRun.Succeeds("embed", "--model", Model, "--input", Texts, "--output", In("v.npy"), "--stats", In("stats.json"), "--threads", "2", "--quiet");
        JsonElement stats = JsonDocument.Parse(System.IO.File.ReadAllText(In("stats.json"))).RootElement;
        Assert.Equal(5, stats.GetProperty("texts").GetInt64());
        Assert.Equal(8 + 4 + 2 + 7 + 6, stats.GetProperty("tokens").GetInt64());
        Assert.Equal(2, stats.GetProperty("threads").GetInt32());
        Assert.Equal(("cpu", "fp32"), (stats.GetProperty("device").GetString(), stats.GetProperty("dtype").GetString()));
        foreach (string name in (string[])["seconds", "tokens_per_second", "load_seconds", "peak_bytes"]) Assert.True(stats.GetProperty(name).GetDouble() > 0, name);
    }

    [Fact]
    public void A_cancelled_command_leaves_no_file()
    {
        using CancellationTokenSource stop = new();
        stop.Cancel();
        CliRun run = CliRun.Of(stop.Token, "embed", "--model", Model, "--input", Texts, "--output", In("v.npy"));
        Assert.Equal((130, "interrupted"), (run.Code, run.LastError));
        Assert.Empty(Directory.GetFiles(Folder, "*v.npy*"));
    }

    [Fact]
    public void Tokenize_follows_each_rows_settings()
    {
        string input = File("t.jsonl", """
            {"id": "a", "text": "The cat sat"}
            {"id": "b", "text": "the cat", "pair": "a dog"}
            {"id": "c", "text": "the cat", "add_special_tokens": false}
            {"id": "d", "text": "the cat sat on the mat", "pair": "a dog", "max_length": 7, "truncation": "only_first"}
            {"id": "e", "text": "the cat sat", "max_length": null, "truncation": null, "other": 1}
            """);
        JsonElement[] rows = Rows(CliRun.Succeeds("tokenize", "--model", Model, "--input", input, "--max-length", "5").Output);
        Assert.Equal(["[2,5,6,8,3]", "[2,5,3,10,3]", "[5,6]", "[2,5,6,3,10,7,3]", "[2,5,6,8,3]"], rows.Select(r => r.GetProperty("input_ids").ToString()));
        Assert.Equal("[0,0,0,0,1,1,1]", rows[3].GetProperty("token_type_ids").ToString());
    }

    [Fact]
    public void Similarity_is_the_cosine_and_one_number_for_two_texts()
    {
        using Embedder embedder = Embedder.Load(Model);
        float[][] v = embedder.EmbedPassages(["the cat", "a dog", "the cat"]);
        double expected = v[0].Zip(v[1], (a, b) => (double)a * b).Sum();
        string number = Assert.Single(CliRun.Succeeds("similarity", "--model", Model, "the cat", "a dog").Output.TrimEnd().Split('\n'));
        Assert.Equal(expected, double.Parse(number, CultureInfo.InvariantCulture), 1e-5);
        string[] lines = CliRun.Succeeds("similarity", "--model", Model, "the cat", "--input", File("o.txt", "a dog\nthe cat\n"), "--normalize", "false").Output.TrimEnd().Split('\n');
        Assert.Equal([$"{number}\ta dog", "1.000000\tthe cat"], lines);
    }

    [Fact]
    public void Rerank_keeps_the_order_of_rows_and_passages()
    {
        string input = File("p.jsonl", """
            {"id": 1, "query": "cat", "passages": ["the cat sat", "a dog"]}
            {"input_ids": [2, 6, 3]}
            {"query": "dog", "passage": "a dog"}
            {"query": "dog", "passages": []}
            """);
        JsonElement[] rows = Rows(CliRun.Succeeds("rerank", "--model", Reranker, "--input", input).Output);
        using BgeMetal.Retrieval.Reranker reranker = BgeMetal.Retrieval.Reranker.Load(Reranker);
        float[] expected = [.. reranker.Score("cat", ["the cat sat", "a dog"]), reranker.ScoreTokens([new TextInput { InputIds = [2, 6, 3] }]).Scores[0], .. reranker.Score("dog", ["a dog"])];
        Assert.Equal([2, 1, 1, 0], rows.Select(r => r.GetProperty("scores").GetArrayLength()));
        Assert.Equal(expected, rows.SelectMany(r => r.GetProperty("scores").EnumerateArray().Select(s => s.GetSingle())));
        JsonElement[] normalized = Rows(CliRun.Succeeds("rerank", "--model", Reranker, "--input", input, "--normalize").Output);
        Assert.Equal(1 / (1 + Math.Exp(-expected[0])), normalized[0].GetProperty("scores")[0].GetDouble(), 1e-6);
    }

    [Fact]
    public void Index_and_search_find_a_text_by_itself()
    {
        string corpus = File("c.jsonl", string.Concat(s_texts.Where(t => t.Length > 0).Select((t, i) => JsonSerializer.Serialize(new { _id = "p" + i, title = "", text = t }) + "\n")));
        CliRun.Succeeds("index", "--model", Model, "--corpus", corpus, "--output", In("i.bgm"), "--query-instruction", "");
        CliRun run = CliRun.Succeeds("search", "--index", In("i.bgm"), "--query", "the ship sails the sea", "--top-k", "2");
        JsonElement hits = Assert.Single(Rows(run.Output)).GetProperty("hits");
        Assert.Equal(2, hits.GetArrayLength());
        Assert.Equal(("p2", "the ship sails the sea"), (hits[0].GetProperty("id").GetString(), hits[0].GetProperty("text").GetString()));
        Assert.Equal(1, hits[0].GetProperty("score").GetDouble(), 1e-5);
        CliRun.Succeeds("search", "--index", In("i.bgm"), "--queries", Texts, "--output", In("hits.jsonl"));
        Assert.Equal(s_texts.Length, Rows(System.IO.File.ReadAllText(In("hits.jsonl"))).Length);
    }

    [Fact]
    public void An_index_of_other_dimensions_is_refused()
    {
        CliRun.Succeeds("index", "--model", Model, "--corpus", Texts, "--output", In("i.bgm"), "--dimensions", "4");
        CliRun.Fails(1, ["have 16 components, the index's 4"], "search", "--index", In("i.bgm"), "--query", "a");
    }

    [Fact]
    public void Eval_measures_writes_json_and_rows_a_query()
    {
        WriteDataSet("one");
        WriteDataSet("two");
        CliRun run = CliRun.Succeeds("eval", "--model", Model, "--data", In("one"), In("two"), "--k", "1,2", "--output", In("m.json"), "--per-query", In("q.csv"), "--run", In("run.txt"), "--instruction", "");
        JsonElement json = JsonDocument.Parse(System.IO.File.ReadAllText(In("m.json"))).RootElement;
        Assert.Equal(2, json.GetProperty("datasets").GetArrayLength());
        JsonElement metrics = json.GetProperty("datasets")[0].GetProperty("metrics");
        // One query is its passage word for word (rank 1); the other's only relevant passage is not in the corpus.
        Assert.Equal(0.5, metrics.GetProperty("ndcg@1").GetDouble(), 1e-9);
        Assert.Equal(0.5, json.GetProperty("average").GetProperty("mrr@2").GetDouble(), 1e-9);
        Assert.Contains("warning: ", run.Error, StringComparison.Ordinal);
        Assert.Equal(3, System.IO.File.ReadAllLines(In("q.csv.one.csv")).Length);
        Assert.Equal(2 * 3, System.IO.File.ReadAllLines(In("run.txt.two")).Length);
    }

    [Fact]
    public void Eval_prints_a_table_and_may_rerank()
    {
        WriteDataSet("one");
        CliRun run = CliRun.Succeeds("eval", "--model", Model, "--data", In("one"), "--k_values", "1", "10", "--reranker", Reranker, "--rerank-top-k", "2", "--query_max_len", "8");
        Assert.Contains("nDCG@10", run.Output, StringComparison.Ordinal);
        Assert.Contains("one (2 queries)", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Info_tells_parameters_and_memory()
    {
        JsonElement info = JsonDocument.Parse(CliRun.Succeeds("info", Model, "--format", "json", "--threads", "1", "--batch-tokens", "100").Output).RootElement;
        // (V + M + S) D + 2 D + L (4 D (D + 1) + 2 D I + I + D + 4 D), counted by hand for this shape.
        long v = TinyModel.Vocabulary.Length, expected = ((v + 64 + 2) * 16) + 32 + (2 * ((4 * 16 * 17) + (2 * 16 * 32) + 32 + 16 + 64));
        Assert.Equal(expected, info.GetProperty("encoder_parameters").GetInt64());
        Assert.Equal(expected + (16 * 17), info.GetProperty("stored_parameters").GetInt64());
        Assert.Equal(4 * (expected + (100 * ((9 * 16) + 32))), info.GetProperty("embedding_bytes").GetInt64());
        Assert.Equal("F32", info.GetProperty("stored_as").GetString());
        Assert.Equal(v, info.GetProperty("tokenizer_vocabulary").GetInt64());
        Assert.Contains("model.safetensors", CliRun.Succeeds("info", Model).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_memory_that_info_tells_is_near_what_embedding_takes()
    {
        CliRun.Succeeds("init", "--corpus", Texts, "--output", In("wide"), "--layers", "3", "--hidden-size", "256", "--heads", "4", "--min-frequency", "1");
        using Embedder embedder = Embedder.Load(In("wide"), new EmbedderOptions { Compute = new ComputeOptions { Threads = 2 } });
        embedder.EmbedPassages([.. Enumerable.Repeat(string.Join(' ', Enumerable.Repeat("the cat sat on the mat", 100)), 8)]);
        long told = BgeMetal.Checkpoints.ModelInfo.Load(In("wide")).EmbeddingBytes(batchTokens: 384, threads: 2);
        Assert.InRange(told / (double)embedder.ReservedBytes, 0.7, 1.4);
    }

    [Fact]
    public void Init_makes_a_model_that_embeds_and_the_same_one_for_the_same_seed()
    {
        string[] init = ["init", "--corpus", Texts, "--vocab-size", "60", "--layers", "1", "--hidden-size", "16", "--heads", "2", "--max-positions", "32", "--min-frequency", "1", "--output"];
        CliRun.Succeeds([.. init, In("fresh")]);
        CliRun.Succeeds([.. init, In("again")]);
        Assert.Equal(System.IO.File.ReadAllBytes(In("fresh", "model.safetensors")), System.IO.File.ReadAllBytes(In("again", "model.safetensors")));
        CliRun.Succeeds([.. init, In("other"), "--seed", "7"]);
        Assert.NotEqual(System.IO.File.ReadAllBytes(In("fresh", "model.safetensors")), System.IO.File.ReadAllBytes(In("other", "model.safetensors")));
        string cosine = CliRun.Succeeds("similarity", "--model", In("fresh"), "the cat", "a dog").Output;
        Assert.InRange(double.Parse(cosine, CultureInfo.InvariantCulture), -1, 0.9999);
        CliRun.Fails(1, ["the folder is not empty", "--overwrite-output-dir"], [.. init, In("fresh")]);
        CliRun.Succeeds([.. init, In("fresh"), "--overwrite_output_dir", "True"]);
    }

    [Fact]
    public void Quickstart_runs_and_tells_what_came_out()
    {
        CliRun run = CliRun.Succeeds("quickstart", "--output", In("quick"));
        Assert.Contains("nDCG@10", run.Output, StringComparison.Ordinal);
        Assert.Equal(9, run.Error.Split('\n').Count(line => line.StartsWith("$ bgemetal ", StringComparison.Ordinal)));
        double before = Recall("before"), after = Recall("after");
        Assert.InRange(before, 0.1, 1);                   // chance is 0.025: words that a query shares with its passage survive random weights
        Assert.True(after > before, $"training changed recall@10 from {before} to {after}");
        Assert.Equal(267, System.IO.File.ReadLines(In("quick", "mined.jsonl")).Count());
        Assert.True(System.IO.File.Exists(In("quick", "model", "loss.png")));

        double Recall(string when) => JsonDocument.Parse(System.IO.File.ReadAllText(In("quick", $"metrics_{when}.json")))
            .RootElement.GetProperty("datasets")[0].GetProperty("metrics").GetProperty("recall@10").GetDouble();
        CliRun.Succeeds("quickstart", "--output", In("quick"), "--quiet");
        CliRun.Fails(1, ["the folder is not empty"], "quickstart", "--output", Folder);
    }

    private void WriteDataSet(string name)
    {
        File(name + "/corpus.jsonl", "{\"_id\": \"p0\", \"text\": \"the cat sat on the mat\"}\n{\"_id\": \"p1\", \"text\": \"stars shine at night\"}\n{\"_id\": \"p2\", \"text\": \"the sea\"}\n");
        File(name + "/queries.jsonl", "{\"_id\": \"q0\", \"text\": \"stars shine at night\"}\n{\"_id\": \"q1\", \"text\": \"a dog\"}\n");
        File(name + "/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq0\tp1\t1\nq1\tp9\t1\n");
    }

    private static JsonElement[] Rows(string lines) => [.. lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonDocument.Parse(l).RootElement)];
}
