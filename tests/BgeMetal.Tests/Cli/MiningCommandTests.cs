using System.Text.Json;

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
        CliRun.Succeeds("hn_mine", "--model_name_or_path", encoder, "--input_file", rows, "--output_file", At("mined.jsonl"), "--range_for_sampling", "0-20",
            "--negative_number", "3", "--use_gpu_for_searching", "--query_instruction_for_retrieval", "the ");
        CliRun.Succeeds("score", "--reranker", teacher, "--input", At("mined.jsonl"), "--output", At("scored.jsonl"));
        CliRun.Succeeds("finetune-reranker", "--model", encoder, "--train-data", At("scored.jsonl"), "--output-dir", At("reranker"), "--train-group-size", "3", "--max-len", "24",
            "--knowledge-distillation", "--max-steps", "2", "--per-device-train-batch-size", "2");
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
