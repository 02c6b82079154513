using System.Buffers.Binary;

namespace BgeMetal.Tests.Cli;

/// <summary>Bad input and wrong usage: the exit code, one line that names the thing, no stack trace, no output left behind.</summary>
public sealed class HostileInputTests : CommandFolder
{
    private string Good => File("ok.jsonl", "{\"text\": \"the cat\"}\n");

    private string Out => In("out.npy");

    [Fact]
    public void A_model_that_is_not_there() => FailsToEmbed(1, ["cannot open the model", "nowhere"], "--model", In("nowhere"), "--input", Good);

    [Fact]
    public void A_model_that_is_a_file() => FailsToEmbed(1, ["this is a file", "ok.jsonl"], "--model", Good, "--input", Good);

    [Fact]
    public void A_folder_that_is_no_model() => FailsToEmbed(1, ["config.json"], "--model", Folder, "--input", Good);

    [Fact]
    public void No_model() => FailsToEmbed(2, ["--model"], "--input", Good);

    [Fact]
    public void No_input() => FailsToEmbed(2, ["--input"], "--model", Model);

    [Fact]
    public void An_input_that_is_not_there() => FailsToEmbed(1, ["none.jsonl"], "--model", Model, "--input", In("none.jsonl"));

    [Fact]
    public void A_pooling_that_is_not_known() => FailsToEmbed(2, ["--pooling: 'cat' is not one of auto, cls, mean"], "--model", Model, "--input", Good, "--pooling", "cat");

    [Fact]
    public void A_device_that_is_not_there() => FailsToEmbed(1, ["cuda:7"], "--model", Model, "--input", Good, "--device", "cuda:7");

    [Fact]
    public void A_device_that_is_not_known() => FailsToEmbed(2, ["--device: 'gpu' is not one of auto, cpu, cuda, cuda:N"], "--model", Model, "--input", Good, "--device", "gpu");

    [Fact]
    public void A_precision_that_the_device_lacks() => FailsToEmbed(1, ["fp16"], "--model", Model, "--input", Good, "--dtype", "fp16", "--device", "cpu");

    [Fact]
    public void A_misspelt_option() => FailsToEmbed(2, ["unknown option '--max-lenght': did you mean '--max-length'?"], "--model", Model, "--input", Good, "--max-lenght", "5");

    [Fact]
    public void A_length_beyond_the_positions() => FailsToEmbed(1, ["max-length", "65", "64"], "--model", Model, "--input", Good, "--max-length", "65");

    [Fact]
    public void More_dimensions_than_there_are() => FailsToEmbed(1, ["dimensions", "17", "16"], "--model", Model, "--input", Good, "--dimensions", "17");

    [Theory]
    [InlineData("{\"text\": \"a\"}\n{\"text\": \n", "bad.jsonl:2")]
    [InlineData("{\"text\": 5}\n", "bad.jsonl:1")]
    [InlineData("\n\n[1]\n", "bad.jsonl:3")]
    [InlineData("{\"txt\": \"a\"}\n", "bad.jsonl:1")]
    [InlineData("{\"input_ids\": []}\n", "bad.jsonl:1")]
    [InlineData("{\"input_ids\": [2, 10000000]}\n", "bad.jsonl:1")]
    [InlineData("{\"input_ids\": [2, -1]}\n", "bad.jsonl:1")]
    [InlineData("{\"input_ids\": [2, 1.5]}\n", "bad.jsonl:1")]
    [InlineData("{\"input_ids\": [2, 99999999999]}\n", "bad.jsonl:1")]
    public void A_bad_line(string content, string place) => FailsToEmbed(1, [place], "--model", Model, "--input", File("bad.jsonl", content));

    [Fact]
    public void More_tokens_than_positions() =>
        FailsToEmbed(1, ["bad.jsonl:1", "65", "64"], "--model", Model, "--input", File("bad.jsonl", $"{{\"input_ids\": [{string.Join(',', Enumerable.Repeat(5, 65))}]}}\n"));

    [Fact]
    public void A_text_for_a_model_without_a_tokenizer() =>
        FailsToEmbed(1, ["tokenizer"], "--model", TinyModel.Write(In("mute"), tokenizer: false), "--input", Good);

    [Fact]
    public void An_output_that_is_a_folder() => CliRun.Fails(1, ["cannot write", "is a directory"], "embed", "--model", Model, "--input", Good, "--output", Folder);

    [Theory]
    [InlineData("cut")]
    [InlineData("huge header")]
    [InlineData("junk")]
    [InlineData("empty")]
    public void Damaged_weights(string damage)
    {
        string model = TinyModel.Write(In("damaged")), path = Path.Combine(model, "model.safetensors");
        byte[] bytes = System.IO.File.ReadAllBytes(path);
        byte[] header = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(header, 1L << 62);
        System.IO.File.WriteAllBytes(path, damage switch
        {
            "cut" => bytes[..(bytes.Length / 2)],
            "huge header" => [.. header, .. bytes[8..]],
            "junk" => [.. bytes[..8], .. "{\"a\":"u8, .. bytes[13..]],
            _ => [],
        });
        FailsToEmbed(1, ["model.safetensors"], "--model", model, "--input", Good);
    }

    [Fact]
    public void A_hub_id_with_no_network_allowed()
    {
        string? before = Environment.GetEnvironmentVariable("HF_HUB_OFFLINE");
        Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", "1");
        try
        {
            FailsToEmbed(1, ["cannot download acme/none", "HF_HUB_OFFLINE"], "--model", "acme/none", "--input", Good, "--cache-dir", In("cache"));
        }
        finally
        {
            Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", before);
        }
    }

    [Fact]
    public void A_limit_too_small_for_the_special_tokens() =>
        CliRun.Fails(1, ["t.jsonl:1"], "tokenize", "--model", Model, "--input", File("t.jsonl", "{\"text\": \"the cat\", \"max_length\": 1}\n"));

    [Fact]
    public void A_truncation_that_is_not_known() =>
        CliRun.Fails(1, ["t.jsonl:1", "sideways"], "tokenize", "--model", Model, "--input", File("t.jsonl", "{\"text\": \"the cat\", \"truncation\": \"sideways\"}\n"));

    [Fact]
    public void An_embedder_as_reranker() => CliRun.Fails(1, ["classifier"], "rerank", "--model", Model, "--input", File("p.jsonl", "{\"query\": \"a\", \"passage\": \"b\"}\n"));

    [Fact]
    public void A_pair_without_a_passage() => CliRun.Fails(1, ["p.jsonl:1", "passage"], "rerank", "--model", Reranker, "--input", File("p.jsonl", "{\"query\": \"a\"}\n"));

    [Fact]
    public void An_index_that_is_none() => CliRun.Fails(1, ["ok.jsonl"], "search", "--index", Good, "--query", "a");

    [Fact]
    public void A_search_without_a_query() => CliRun.Fails(2, ["--query TEXT or --queries FILE is missing"], "search", "--index", Good);

    [Fact]
    public void A_search_with_two_kinds_of_queries() => CliRun.Fails(2, ["--query and --queries exclude each other"], "search", "--index", Good, "--query", "a", "--queries", Good);

    [Fact]
    public void A_lone_text_to_compare() => CliRun.Fails(2, ["a second text"], "similarity", "--model", Model, "the cat");

    [Fact]
    public void A_data_set_that_is_not_there() => CliRun.Fails(1, ["nowhere"], "eval", "--model", Model, "--data", In("nowhere"));

    [Fact]
    public void A_data_set_without_judgements()
    {
        File("set/corpus.jsonl", "{\"_id\": \"1\", \"text\": \"a\"}\n");
        File("set/queries.jsonl", "{\"_id\": \"q\", \"text\": \"a\"}\n");
        CliRun.Fails(1, ["qrels"], "eval", "--model", Model, "--data", In("set"));
    }

    [Theory]
    [InlineData("{\"qa\": 1}", "field 'qa' is '1'")]
    [InlineData("{\n\"qa\": {,\n}", "broken.json:2)")]
    [InlineData("[]", "expected a JSON object")]
    public void A_broken_file_is_called_what_it_is(string content, string why)
    {
        string broken = File("broken.json", content), rows = File("rows.jsonl", "{\"query\": \"a\", \"pos\": [\"b\"], \"neg\": [\"c\"]}\n");
        CliRun.Fails(1, ["error: cannot read the instructions: ", why, "broken.json"], "embed", "--model", Model, "--input", Good, "--output", Out, "--task", "qa", "--instructions", broken);
        CliRun.Fails(1, ["error: cannot read the tasks' options: ", why, "broken.json"], "finetune-llm-embedder", "--model", Model, "--train-data", "qa:" + rows, "--output-dir", In("o"), "--task-config", broken);
        CliRun.Fails(1, ["error: cannot read the prompts: ", why, "broken.json"], "score", "--endpoint", "http://localhost:9/v1", "--llm", "x", "--input", rows, "--output", In("scored.jsonl"), "--prompts", broken);
    }

    [Fact]
    public void A_cutoff_of_nothing() => CliRun.Fails(2, ["--k: '0' is not a whole number from 1"], "eval", "--model", Model, "--data", Folder, "--k", "0,5");

    [Fact]
    public void A_stack_trace_only_on_demand()
    {
        CliRun run = CliRun.Of("embed", "--verbose", "--model", Model, "--input", In("none.jsonl"));
        Assert.Equal(1, run.Code);
        Assert.Contains("   at ", run.Error, StringComparison.Ordinal);
    }

    private void FailsToEmbed(int code, string[] words, params string[] arguments)
    {
        CliRun run = CliRun.Fails(code, words, ["embed", .. arguments, "--output", Out]);
        Assert.Equal("", run.Output);
        Assert.Empty(Directory.GetFiles(Folder, "*out.npy*"));
    }
}
