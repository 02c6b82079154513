using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Testing;
using BgeMetal.Tests.Cli;

namespace BgeMetal.Tests.Training;

/// <summary>The LLM-Embedder's data and command: which candidates rows give, batches of one task, resume, instructions kept with the model, scores from a server.</summary>
public sealed class LlmEmbedderTrainingTests : CommandFolder
{
    private static readonly string[] s_tasks = ["qa", "convsearch", "lrlm", "tool", "chat", "icl"];

    [Theory]
    [InlineData(PositiveSelection.First, NegativeSelection.First, 0, new[] { 2, 3, 4 })]
    [InlineData(PositiveSelection.Teacher, NegativeSelection.First, 3, new[] { 2, 4, 5 })]
    [InlineData(PositiveSelection.TeacherPositive, NegativeSelection.TeacherBest, 1, new[] { 3, 5, 2 })]
    [InlineData(PositiveSelection.First, NegativeSelection.TeacherWorst, 0, new[] { 4, 2, 5 })]
    public void Candidates_are_chosen_by_the_rules(PositiveSelection positive, NegativeSelection negative, int expectedPositive, int[] expectedNegatives)
    {
        LlmEmbedderRow row = Row("""{"query":"q","pos":["a","b"],"neg":["c","d","e","f"],"teacher_scores":[1,2,3,9,0,4]}""");
        int[] drawn = new CandidateSampler(seed: 1, groupSize: 4).Draw(row, new CandidateRules(positive, negative), 0, 0);
        Assert.Equal([expectedPositive, .. expectedNegatives], drawn);
    }

    [Fact]
    public void Stable_distillation_gets_negatives_in_the_teachers_order_and_few_negatives_are_repeated()
    {
        LlmEmbedderRow row = Row("""{"query":"q","pos":["a"],"neg":["c","d"],"teacher_scores":[1,3,9]}""");
        int[] drawn = new CandidateSampler(1, groupSize: 5).Draw(row, new CandidateRules(PositiveSelection.First, NegativeSelection.Random, SortByTeacher: true), 0, 0);
        Assert.Equal([0, 2, 2, 1, 1], drawn);
    }

    [Fact]
    public void A_dialogue_turn_that_the_teacher_likes_best_is_the_positive_and_no_negative()
    {
        LlmEmbedderRow row = Row("""{"query":"q","history":["a","b","c"],"teacher_scores":[-3,-1,-2]}""");
        CandidateSampler sampler = new(1, groupSize: 8);
        for (int epoch = 0; epoch < 20; epoch++)
        {
            int[] drawn = sampler.Draw(row, new CandidateRules(PositiveSelection.Teacher, NegativeSelection.Random), epoch, 0);
            Assert.Equal(1, drawn[0]);
            Assert.DoesNotContain(1, drawn[1..]);
        }
    }

    [Fact]
    public void Rows_whose_scores_hardly_differ_or_are_low_are_left_out()
    {
        LlmEmbedderRow row = Row("""{"query":"q","pos":["a"],"neg":["b"],"teacher_scores":[-1.0,-1.25]}""");
        CandidateSampler sampler = new(1, groupSize: 2);
        Assert.True(sampler.Admits(row, new CandidateRules(default, default, Margin: 0.25, Minimum: -1)));
        Assert.False(sampler.Admits(row, new CandidateRules(default, default, Margin: 0.26)));
        Assert.False(sampler.Admits(row, new CandidateRules(default, default, Minimum: -0.9)));
        Assert.False(sampler.Admits(Row("""{"query":"q","pos":["a"],"neg":[]}"""), new CandidateRules(default, default)));
        Assert.False(sampler.Admits(Row("""{"query":"q","history":["a"],"teacher_scores":[1]}"""), new CandidateRules(PositiveSelection.Teacher, default)));
    }

    [Theory]
    [InlineData("""{"query":"q","pos":[],"neg":["a"]}""", "no positive")]
    [InlineData("""{"query":"q","pos":["a"],"neg":["b"],"teacher_scores":[1]}""", "1 + 1")]
    [InlineData("""{"query":"q"}""", "no candidate")]
    public void A_row_without_sense_is_named(string json, string word)
    {
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => Row(json));
        Assert.Contains(word, error.Message, StringComparison.Ordinal);
        Assert.Contains("row:7", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(BatchComposition.Epoch)]
    [InlineData(BatchComposition.Random)]
    public void Every_batch_is_of_one_task(BatchComposition composition)
    {
        string[] files = [.. s_tasks.Select(task => task + ":" + Toy(task))];
        using TrainingDataSet<LlmEmbedderRow> data = TrainingDataSet<LlmEmbedderRow>.Open(files.Select(TrainingInput.ParseTask), json => LlmEmbedderRow.Read(json), new TrainingDataOptions());
        TaskBatching For(string task) => new(new CandidateRules(task == "chat" ? PositiveSelection.Teacher : PositiveSelection.First, NegativeSelection.Random), task, "", task == "qa" ? 4 : 3, task == "icl" ? 5 : null);
        LlmEmbedderBatching options = new(For, composition, 3, 2, 16, 16, Shuffle: true, DropLast: false, Seed: 3);
        LlmEmbedderBatches batches = new(data, options, BgeMetal.Text.ModelTokenizer.Load(Model)), again = new(data, options, BgeMetal.Text.ModelTokenizer.Load(Model));
        List<int> rows = [];
        for (int i = 0; i < batches.PerEpoch; i++)
        {
            ContrastiveBatch batch = batches.Build(1, i);
            Assert.Contains(batch.Task, s_tasks);
            Assert.All(batch.Places, place => Assert.EndsWith(batch.Task + ".json", place.File, StringComparison.Ordinal));
            Assert.True(batch.Rows.Length <= (batch.Task == "qa" ? 4 : 3));
            Assert.Equal(batch.Task is not ("convsearch" or "tool"), batch.TeacherScores is not null);
            rows.AddRange(batch.Rows.ToArray());
        }
        if (composition == BatchComposition.Epoch) Assert.Equal(45, rows.Distinct().Count());
        ContrastiveBatch late = again.Build(batches.PerEpoch + 4L);
        Assert.Equal(late.Rows.ToArray(), batches.Build(1, 4).Rows.ToArray());
        Assert.Equal(late.Passages.Select(text => text.Ids.ToArray()), batches.Build(1, 4).Passages.Select(text => text.Ids.ToArray()));
    }

    [Fact]
    public void A_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one()
    {
        Train("whole", 8);
        Train("parts", 8, "--save-steps", "5");
        Directory.Move(In("parts", "checkpoint-5"), In("checkpoint-5"));
        Train("resumed", 8, "--resume-from-checkpoint", In("checkpoint-5"));
        Assert.Equal(System.IO.File.ReadAllBytes(In("whole", "model.safetensors")), System.IO.File.ReadAllBytes(In("resumed", "model.safetensors")));
        CliRun.Fails(1, ["cannot resume"], Arguments("changed", 8, "--resume-from-checkpoint", In("checkpoint-5"), "--weight-decay", "0.5"));
    }

    [Fact]
    public void Instructions_are_kept_with_the_model_and_used_by_task()
    {
        string own = File("own.json", """{"qa": {"query": "the cat ", "key": "the dog "}}""");
        Train("out", 1, "--instructions", own);
        string text = File("t.txt", "ship\n"), written = File("w.txt", "the cat ship\n"), key = File("k.txt", "the dog ship\n");
        Assert.Equal(Embed(written), Embed(text, "--task", "qa", "--side", "query"));
        Assert.Equal(Embed(key), Embed(text, "--task", "qa", "--side", "key"));
        Assert.NotEqual(Embed(text), Embed(text, "--task", "qa", "--side", "key"));
        Assert.Contains("--task says which", CliRun.Succeeds("embed", "--model", In("out"), "--input", text).Error, StringComparison.Ordinal);
        CliRun.Succeeds("index", "--model", In("out"), "--corpus", text, "--output", In("i.index"), "--task", "qa");
        string prompt = CliRun.Succeeds("search", "--index", In("i.index"), "--query", "sea", "--task", "qa", "--format", "prompt").Output;
        Assert.Contains("[1] ship", prompt, StringComparison.Ordinal);
        Assert.EndsWith("Question: sea\nAnswer:\n", prompt, StringComparison.Ordinal);
        CliRun.Fails(1, ["poetry", "qa"], "embed", "--model", In("out"), "--input", text, "--task", "poetry");
    }

    [Fact]
    public async Task Scores_from_a_server_flow_into_training()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        string rows = File("rows.jsonl", string.Concat(Enumerable.Range(0, 4).Select(i => JsonSerializer.Serialize(new
        {
            query = $"the cat {i}",
            answers = new[] { "sat on a mat" },
            pos = Array.Empty<string>(),
            neg = new[] { "the ship", "night stars", $"dog {i}" },
        }) + "\n")));
        CliRun.Succeeds("score", "--input", rows, "--output", In("scored.jsonl"), "--endpoint", server.Endpoint, "--llm", "test", "--task", "lrlm", "--api-key-env", "BGEMETAL_NO_SUCH_KEY");
        CliRun.Fails(1, ["rows.jsonl:1", "no positive"], "finetune-llm-embedder", "--model", Model, "--train-data", "lrlm:" + rows, "--output-dir", In("bad"), "--max-steps", "1");
        CliRun.Succeeds("finetune-llm-embedder", "--model", Model, "--train-data", "lrlm:" + In("scored.jsonl"), "--output-dir", In("out"), "--max-steps", "2", "--train-group-size", "3",
            "--select-positive", "teacher", "--contrastive-weight", "0", "--teacher-temperature", "0.1", "--per-device-train-batch-size", "2", "--query-max-len", "32", "--passage-max-len", "32");
        Assert.True(System.IO.File.Exists(In("out", "model.safetensors")));
    }

    [Fact]
    public void Options_by_task_need_batches_of_one_task()
    {
        CliRun.Fails(1, ["--inbatch-same-dataset"], "finetune-llm-embedder", "--model", Model, "--train-data", "qa:x", "--output-dir", In("o"), "--use-train-config");
        CliRun.Fails(1, ["contrastive_wait", "contrastive_weight"], "finetune-llm-embedder", "--model", Model, "--train-data", "qa:x", "--output-dir", In("o"), "--inbatch-same-dataset", "epoch",
            "--task-config", File("tasks.json", """{"qa": {"contrastive_wait": 1}}"""));
    }

    private static LlmEmbedderRow Row(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return LlmEmbedderRow.Read(new JsonRow(document.RootElement, "row", 7));
    }

    private static string Toy(string task)
    {
        string path = Path.Combine(SharedFolder.Data, "flagembedding", "llm_embedder", task + ".json");
        Assert.SkipUnless(System.IO.File.Exists(path), $"{path} is not there");
        return path;
    }

    private string Embed(string input, params string[] more) => CliRun.Succeeds(["embed", "--model", In("out"), "--input", input, "--quiet", .. more]).Output;

    private void Train(string folder, int steps, params string[] more) => CliRun.Succeeds(Arguments(folder, steps, more));

    private string[] Arguments(string folder, int steps, params string[] more) => ["finetune-llm-embedder", "--model", Model, "--train-data", .. s_tasks.Select(task => $"{task}:{Toy(task)}"),
        "--output-dir", In(folder), "--max-steps", $"{steps}", "--learning-rate", "1e-3", "--per-device-train-batch-size", "2", "--train-group-size", "3", "--inbatch-same-dataset", "epoch",
        "--use-train-config", "--query-max-len", "24", "--passage-max-len", "24", .. more];
}
