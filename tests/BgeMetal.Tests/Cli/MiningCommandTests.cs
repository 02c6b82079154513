using System.Diagnostics;
using System.Text.Json;
using BgeMetal.Cli;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Cli;

/// <summary>mine, score and finetune-reranker from the command line, each fed by the one before.</summary>
public sealed class MiningCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Mined_and_scored_rows_train_a_reranker_that_reranks()
    {
        string encoder = TinyModel.Write(At("encoder")), teacher = TinyModel.Write(At("teacher"), classifier: true), rows = WriteRows();
        CliRun mined = CliRun.Succeeds("hn_mine", "--model_name_or_path", encoder, "--input_file", rows, "--output_file", At("mined.jsonl"), "--range_for_sampling", "0-20",
            "--negative_number", "3", "--use_gpu_for_searching", "--query_instruction_for_retrieval", "the ");
        Assert.Contains("--use-gpu-for-searching: the model computes on the CPU, the search runs there too", mined.Error, StringComparison.Ordinal);
        CliRun.Succeeds("score", "--reranker", teacher, "--input", At("mined.jsonl"), "--output", At("scored.jsonl"));
        CliRun.Succeeds("finetune-reranker", "--model", encoder, "--train-data", At("scored.jsonl"), "--output-dir", At("reranker"), "--train-group-size", "3", "--max-len", "24",
            "--knowledge-distillation", "--pad_to_multiple_of", "8", "--sub_batch_size", "3", "--max-steps", "2", "--per-device-train-batch-size", "2");
        File.WriteAllText(At("pairs.jsonl"), """{"query": "the cat", "passages": ["the cat sat", "ship at sea"]}""" + "\n");
        CliRun.Succeeds("rerank", "--model", At("reranker"), "--input", At("pairs.jsonl"), "--output", At("ranked.jsonl"));
        using JsonDocument ranked = JsonDocument.Parse(File.ReadAllText(At("ranked.jsonl")));
        Assert.Equal(2, ranked.RootElement.GetProperty("scores").GetArrayLength());
        CliRun.Succeeds("rerank", "--model", teacher, "--input", At("pairs.jsonl"), "--output", At("ranked.jsonl"));
        string[] scored = File.ReadAllLines(At("scored.jsonl"));
        Assert.Equal(4, scored.Length);
        using JsonDocument first = JsonDocument.Parse(scored[0]);
        JsonElement row = first.RootElement;
        Assert.Equal(3, row.GetProperty("neg_scores").GetArrayLength());
        Assert.Equal("kept", row.GetProperty("extra").GetString());
        Assert.Equal(row.GetProperty("pos_scores").EnumerateArray().Concat(row.GetProperty("neg_scores").EnumerateArray()).Select(score => score.GetSingle()),
            row.GetProperty("teacher_scores").EnumerateArray().Select(score => score.GetSingle()));
    }

    [Fact]
    public void Scores_are_those_of_the_reranker()
    {
        string teacher = TinyModel.Write(At("teacher"), classifier: true), rows = WriteRows();
        CliRun.Succeeds("score", "--reranker", teacher, "--input", rows, "--output", At("scored.jsonl"));
        using BgeMetal.Retrieval.Reranker reranker = BgeMetal.Retrieval.Reranker.Load(teacher);
        foreach (string line in File.ReadLines(At("scored.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string[] passages = [.. row.RootElement.GetProperty("pos").EnumerateArray().Concat(row.RootElement.GetProperty("neg").EnumerateArray()).Select(text => text.GetString()!)];
            Assert.Equal(reranker.Score(row.RootElement.GetProperty("query").GetString()!, passages), row.RootElement.GetProperty("teacher_scores").EnumerateArray().Select(score => score.GetSingle()));
        }
    }

    [Fact]
    public void Every_kind_of_caution_can_be_asked_for_at_once()
    {
        string encoder = TinyModel.Write(At("encoder")), teacher = TinyModel.Write(At("teacher"), classifier: true);
        File.WriteAllLines(At("pool.txt"), ["a mat", "the sea", "night stars", "the cat sat on the mat"]);
        CliRun run = CliRun.Succeeds("mine", "--model", encoder, "--input", WriteRows(), "--output", At("mined.jsonl"), "--candidate-pool", At("pool.txt"), "--range-for-sampling", "0-20",
            "--negative-number", "2", "--relative-margin", "0.01", "--absolute-margin", "0.001", "--max-score", "0.99", "--min-score", "-0.99", "--near-duplicate", "0.999",
            "--reranker", teacher, "--reranker-max-score", "0.9", "--report", At("suspects.jsonl"), "--work-dir", At("work"), "--stats", At("stats.json"), "--seed", "7");
        Assert.Contains("4 rows", run.Error, StringComparison.Ordinal);
        Assert.True(File.Exists(At("suspects.jsonl")) && File.Exists(At("stats.json")) && !Directory.Exists(At("work")));
        foreach (string line in File.ReadLines(At("mined.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            Assert.All(row.RootElement.GetProperty("neg").EnumerateArray(), text => Assert.Contains(text.GetString(), File.ReadAllLines(At("pool.txt"))));
        }
    }

    [Fact]
    public void FlagEmbeddings_mining_command_runs_as_it_is_on_its_toy_data()
    {
        string rows = SharedFolder.DataOrSkip("flagembedding", "old-examples", "finetune", "toy_finetune_data.jsonl"), encoder = TinyModel.Write(At("encoder"));
        CliRun.Succeeds("hn_mine", "--model_name_or_path", encoder, "--input_file", rows, "--output_file", At("toy_finetune_data_minedHN.jsonl"), "--range_for_sampling", "2-200",
            "--negative_number", "15", "--use_gpu_for_searching");
        JsonElement[] before = Rows(rows), after = Rows(At("toy_finetune_data_minedHN.jsonl"));
        HashSet<string> corpus = [.. before.SelectMany(row => Texts(row, "pos").Concat(Texts(row, "neg")))];
        Assert.Equal(before.Select(row => row.GetProperty("query").GetString()), after.Select(row => row.GetProperty("query").GetString()));
        foreach (JsonElement row in after)
        {
            string[] negatives = Texts(row, "neg");
            Assert.Equal(15, negatives.Distinct().Count());
            Assert.Equal(15, negatives.Length);
            Assert.Subset(corpus, negatives.ToHashSet());
            Assert.Empty(negatives.Intersect([row.GetProperty("query").GetString()!, .. Texts(row, "pos")]));
        }

        static JsonElement[] Rows(string path) => [.. File.ReadLines(path).Select(line => JsonDocument.Parse(line).RootElement)];
        static string[] Texts(JsonElement row, string field) => [.. row.GetProperty(field).EnumerateArray().Select(text => text.GetString()!)];
    }

    [Fact]
    public async Task A_process_killed_in_the_middle_goes_on_and_gives_the_same_file()
    {
        string encoder = TinyModel.Write(At("encoder")), rows = At("many.jsonl");
        string[] words = ["cat", "dog", "sat", "mat", "ship", "sea", "sails", "stars", "night", "shine"];
        string Text(int i) => string.Join(' ', Enumerable.Range(0, 5).Select(place => words[i / (int)Math.Pow(10, place) % 10]));
        File.WriteAllLines(rows, Enumerable.Range(0, 20_000).Select(i => JsonSerializer.Serialize(new { query = Text(7 * i), pos = new[] { Text(i) }, neg = new[] { Text(99_999 - i) } })));
        string[] mine = ["mine", "--model", encoder, "--input", rows, "--range-for-sampling", "2-40", "--negative-number", "3", "--quiet", "--output"];
        using (Process process = Process.Start(new ProcessStartInfo("dotnet", [typeof(CommandLine).Assembly.Location, .. mine, At("mined.jsonl")]) { RedirectStandardError = true })!)
        {
            for (int i = 0; i < 6000 && !process.HasExited && !File.Exists(At("mined.jsonl.work/rows-00001.jsonl")); i++) await Task.Delay(5, TestContext.Current.CancellationToken);
            process.Kill();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.True(File.Exists(At("mined.jsonl.work/rows-00001.jsonl")) || File.Exists(At("mined.jsonl")), await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            Assert.SkipWhen(File.Exists(At("mined.jsonl")), "the machine is so busy that the run ended before this test killed it");
        }
        CliRun resumed = CliRun.Succeeds([.. mine, At("mined.jsonl"), "--stats", At("resumed.json")]), whole = CliRun.Succeeds([.. mine, At("whole.jsonl"), "--stats", At("whole.json")]);
        Assert.Equal(File.ReadAllBytes(At("whole.jsonl")), File.ReadAllBytes(At("mined.jsonl")));
        Assert.True(Texts("resumed.json") < Texts("whole.json"), resumed.Error + whole.Error);
        Assert.False(Directory.Exists(At("mined.jsonl.work")));

        long Texts(string stats)
        {
            using JsonDocument json = JsonDocument.Parse(File.ReadAllText(At(stats)));
            return json.RootElement.GetProperty("texts").GetInt64();
        }
    }

    [Fact]
    public void A_range_that_is_none_is_refused_before_a_model_is_loaded() =>
        CliRun.Fails(2, ["--range-for-sampling", "10-5"], "mine", "--model", At("nothing"), "--input", WriteRows(), "--output", At("out.jsonl"), "--range-for-sampling", "10-5");

    [Fact]
    public void Scoring_without_a_teacher_is_refused() => CliRun.Fails(2, ["--reranker"], "score", "--input", WriteRows(), "--output", At("out.jsonl"));

    private string WriteRows()
    {
        string[] texts = ["the cat sat on the mat", "a dog", "ship at sea", "stars shine at night", "the dog sails", "a cat at sea"];
        string path = At("rows.jsonl");
        File.WriteAllLines(path, Enumerable.Range(0, 4).Select(i => JsonSerializer.Serialize(new { query = $"cat {i}", pos = new[] { texts[i] }, neg = new[] { texts[i + 1], texts[i + 2] }, extra = "kept" })));
        return path;
    }

    private string At(string name) => Path.Combine(_folder, name);
}
