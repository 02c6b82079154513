using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Data.Training;

public sealed class TrainingRowTests : IDisposable
{
    private readonly RowFiles _files = new();

    public void Dispose() => _files.Dispose();

    private TrainingRow Read(string line, TrainingRowRules? rules = null)
    {
        using TrainingFile file = TrainingFile.Open(_files.Write("a.jsonl", "", line));
        return file.Read(0, (rules ?? new TrainingRowRules()).Read);
    }

    [Fact]
    public void A_row_carries_texts_tokens_scores_and_settings()
    {
        TrainingRow row = Read("""{"query":"q","pos":["p",{"input_ids":[1,2]}],"neg":[{"input_ids":[3]}],"pos_scores":[0.5,1e-3],"neg_scores":[-2],"type":"normal","prompt":"do:","task":"qa","batch_size":4,"train_group_size":3,"other":[{}]}""");
        Assert.Equal(("q", "normal", "do:", "qa"), (row.Query.Text, row.Type, row.Prompt, row.Task));
        Assert.Equal((4, 3, 2L), (row.BatchSize, row.GroupSize, row.Place.Line));
        Assert.Equal("p", row.Positives[0].Text);
        Assert.Equal([1, 2], row.Positives[1].InputIds!);
        Assert.Equal([3], row.Negatives[0].InputIds!);
        Assert.Equal([0.5f, 0.001f], row.PositiveScores!);
        Assert.Equal([-2f], row.NegativeScores!);
    }

    [Fact]
    public void Null_is_like_absent_and_teacher_scores_are_split()
    {
        TrainingRow row = Read("""{"query":"q","pos":["a","b"],"neg":["c"],"pos_scores":[9,9],"neg_scores":null,"teacher_scores":[1,2,3],"type":null,"prompt":null}""");
        Assert.Null(row.Prompt);
        Assert.Equal([1f, 2], row.PositiveScores!);
        Assert.Equal([3f], row.NegativeScores!);
        Assert.Null(Read("""{"query":"q","pos":["a"],"neg":["c"],"neg_scores":[1]}""").NegativeScores);
        Assert.Empty(Read("""{"query":"q","pos":["a"]}""", new TrainingRowRules(NeedsNegatives: false)).Negatives);
    }

    public static TheoryData<string, string> HostileRows => new()
    {
        { """{"query":"q","pos":["p"],"neg":["n"]""", "not valid JSON at byte" },
        { """{"query":"q","pos":["p"],"neg":["n"]} {}""", "not valid JSON at byte" },
        { """{"query":"q",'pos':["p"]}""", "not valid JSON at byte" },
        { """["q","p"]""", "a JSON object was expected, found a list" },
        { "3", "a JSON object was expected, found a number" },
        { "NaN", "not valid JSON" },
        { """{"pos":["p"],"neg":["n"]}""", "\"query\" is missing: a string (or {\"input_ids\": [..]}) was expected" },
        { """{"query":null,"pos":["p"],"neg":["n"]}""", "\"query\" must be a string (or {\"input_ids\": [..]}), found null" },
        { """{"query":["q"],"pos":["p"],"neg":["n"]}""", "\"query\" must be a string or {\"input_ids\": [..]}, found a list" },
        { """{"query":"\ud800","pos":["p"],"neg":["n"]}""", "\"query\" holds half of a surrogate pair" },
        { """{"query":{},"pos":["p"],"neg":["n"]}""", "\"query\" is an object without \"input_ids\"" },
        { """{"query":{"in\udc00put_ids":1},"pos":["p"],"neg":["n"]}""", "surrogate" },
        { """{"query":{"input_ids":[]},"pos":["p"],"neg":["n"]}""", "\"query\".input_ids is empty" },
        { """{"query":"q","neg":["n"]}""", "\"pos\" is missing: a list of strings was expected" },
        { """{"query":"q","pos":[],"neg":["n"]}""", "\"pos\" is empty: at least one positive was expected" },
        { """{"query":"q","pos":"p","neg":["n"]}""", "\"pos\" must be a list of strings, found a string" },
        { """{"query":"q","pos":["p",null],"neg":["n"]}""", "\"pos\"[1] must be a string or {\"input_ids\": [..]}, found null" },
        { """{"query":"q","pos":["p"],"neg":["n","m",7]}""", "\"neg\"[2] must be a string or {\"input_ids\": [..]}, found a number" },
        { """{"query":"q","pos":["p"],"neg":["\udfff"]}""", "\"neg\"[0] holds half of a surrogate pair" },
        { """{"query":"q","pos":["p"]}""", "\"neg\" has no text: at least one negative is needed" },
        { """{"query":"q","pos":["p"],"neg":[]}""", "\"neg\" has no text: at least one negative is needed" },
        { """{"query":"q","pos":[{"input_ids":[1,-1]}],"neg":["n"]}""", "\"pos\"[0].input_ids[1] must be a token id from 0 to 2147483647, found -1" },
        { """{"query":"q","pos":[{"input_ids":[1,2.5]}],"neg":["n"]}""", "\"pos\"[0].input_ids[1] must be a token id" },
        { """{"query":"q","pos":[{"input_ids":"1"}],"neg":["n"]}""", "\"pos\"[0].input_ids must be a list of token ids, found a string" },
        { """{"query":"q","pos":[{"input_ids":[1,2,3,4]}],"neg":["n"]}""", "\"pos\"[0].input_ids has 4 tokens, at most 3 are allowed" },
        { """{"query":{"input_ids":[1,2,3]},"pos":["p"],"neg":["n"]}""", "\"query\".input_ids has 3 tokens, at most 2 are allowed" },
        { """{"query":"q","pos":["p"],"neg":["n",{"input_ids":[50]}]}""", "\"neg\"[1].input_ids holds 50, the model's vocabulary ends at 49" },
        { """{"query":"q","pos":["p"],"neg":["n"],"pos_scores":[1,2],"neg_scores":[1]}""", "\"pos_scores\" has 2 numbers, \"pos\" has 1 texts" },
        { """{"query":"q","pos":["p"],"neg":["n"],"pos_scores":[1],"neg_scores":[]}""", "\"neg_scores\" has 0 numbers, \"neg\" has 1 texts" },
        { """{"query":"q","pos":["p"],"neg":["n"],"teacher_scores":[1]}""", "\"teacher_scores\" has 1 numbers, \"pos\" and \"neg\" have 2 texts" },
        { """{"query":"q","pos":["p"],"neg":["n"],"pos_scores":["1"],"neg_scores":[1]}""", "\"pos_scores\"[0] must be a number, found a string" },
        { """{"query":"q","pos":["p"],"neg":["n"],"pos_scores":[1e999],"neg_scores":[1]}""", "\"pos_scores\"[0] is out of range: 1e999" },
        { """{"query":"q","pos":["p"],"neg":["n"],"pos_scores":0.5}""", "\"pos_scores\" must be a list of numbers, found a number" },
        { """{"query":"q","pos":["p"],"neg":["n"],"prompt":7}""", "\"prompt\" must be a string, found a number" },
        { """{"query":"q","pos":["p"],"neg":["n"],"type":["normal"]}""", "\"type\" must be a string, found a list" },
        { """{"query":"q","pos":["p"],"neg":["n"],"batch_size":0}""", "\"batch_size\" must be a whole number from 1" },
    };

    [Theory]
    [MemberData(nameof(HostileRows))]
    public void A_malformed_row_names_file_line_and_reason(string line, string reason)
    {
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => Read(line, new TrainingRowRules(QueryMaxLength: 2, PassageMaxLength: 3, VocabularySize: 50)));
        Assert.StartsWith("bad input: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        Assert.EndsWith("a.jsonl:2)", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Theory]
    [InlineData("""{"query":"q","pos":["p"],"neg":["n"]}""", "a teacher's scores are missing")]
    [InlineData("""{"query":"q","pos":["p"],"neg":["n"],"pos_scores":[1]}""", "\"neg_scores\" is missing beside \"pos_scores\"")]
    public void Distillation_needs_scores(string line, string reason) =>
        Assert.Contains(reason, Assert.Throws<BgeMetalException>(() => Read(line, new TrainingRowRules(NeedsScores: true))).Message, StringComparison.Ordinal);

    [Fact]
    public void Without_a_tokenizer_texts_are_refused() => Assert.Contains("\"neg\"[0] is a text, but the model has no tokenizer",
        Assert.Throws<BgeMetalException>(() => Read("""{"query":{"input_ids":[1]},"pos":[{"input_ids":[1]}],"neg":["n"]}""", new TrainingRowRules(HasTokenizer: false))).Message, StringComparison.Ordinal);

    [Fact]
    public void Text_that_is_not_utf8_names_its_line()
    {
        using TrainingFile file = TrainingFile.Open(_files.WriteBytes("b.jsonl", [.. "{\"query\":\"q\"}\n{\"query\":\""u8, 0xC3, 0x28, .. "\"}\n"u8]));
        Assert.Equal($"bad input: not valid UTF-8 at byte 11 of the line (0xC3) ({file.Path}:2)", Assert.Throws<BgeMetalException>(() => file.Read(1, new TrainingRowRules().Read)).Message);
    }

    [Fact]
    public void Every_published_toy_row_is_read()
    {
        foreach (string name in new[] { "old-examples/finetune/toy_finetune_data.jsonl", "finetune/reranker/normal/examples.jsonl", "llm_embedder/qa.json", "llm_embedder/icl.json", "llm_embedder/tool.json" })
        {
            using TrainingFile file = TrainingFile.Open(SharedFolder.DataOrSkip(["flagembedding", .. name.Split('/')]));
            InvalidLines? none = null;
            file.Check(new TrainingRowRules(NeedsScores: name.Contains("normal", StringComparison.Ordinal) || name.Contains("icl", StringComparison.Ordinal)).Read, none);
            Assert.InRange(file.Rows, 8, 10);
        }

        using TrainingFile pretraining = TrainingFile.Open(SharedFolder.DataOrSkip("pretrain", "en.jsonl.gz"));
        pretraining.Check(new TextRowRules().Read, null);
        Assert.Equal(7643, pretraining.Rows);
    }

    [Fact]
    public void Positives_that_are_missing_in_feedback_data_are_an_error_of_that_row()
    {
        using TrainingFile file = TrainingFile.Open(SharedFolder.DataOrSkip("flagembedding", "llm_embedder", "lrlm.json"));
        Assert.EndsWith("lrlm.json:1)", Assert.Throws<BgeMetalException>(() => file.Check(new TrainingRowRules().Read, null)).Message, StringComparison.Ordinal);
    }
}
