using System.Globalization;
using BgeMetal.Retrieval;
using BgeMetal.Tests.Cli;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>A reranker measured during its training, on the hits of a first stage.</summary>
public sealed class RerankingWatchTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    private RerankerTrainingOptions Task => new() { TrainData = [folder.Rows], TrainGroupSize = 3, MaxLength = 40 };

    private string Data => RetrievalFolder.Write(folder.Out("beir"));

    [Fact]
    public void Every_measurement_is_a_line_and_the_best_model_is_kept()
    {
        string candidates = Candidates("p0", "p1", "p2", "p3", "p4"), output = folder.Out("watched");
        CliRun.Succeeds("finetune-reranker", "--model", folder.Model, "--train-data", folder.Rows, "--output-dir", output, "--train-group-size", "3", "--max-len", "40", "--max-steps", "5",
            "--learning-rate", "1e-3", "--eval-data", Data, "--eval-candidates", candidates, "--eval-top-k", "4", "--eval-steps", "2");
        string[][] lines = [.. File.ReadAllLines(Path.Combine(output, "eval_log.csv")).Select(line => line.Split(','))];
        Assert.Equal(["step", "epoch", "queries", "ndcg@1", "ndcg@5", "ndcg@10"], lines[0][..6]);
        Assert.Equal(["0", "2", "4", "5"], lines[1..].Select(line => line[0]));
        double[] measured = [.. lines[1..].Select(line => double.Parse(line[5], CultureInfo.InvariantCulture))];
        Assert.Equal(measured.Max(), Measure(Path.Combine(output, "best_model"), candidates, 4), 1e-6);
        Assert.Equal(measured[^1], Measure(output, candidates, 4), 1e-6);
    }

    [Fact]
    public void Measuring_does_not_change_the_training()
    {
        RerankerTrainer.Run(folder.Model, Task, folder.Options("blind"));
        RerankerTrainer.Run(folder.Model, Task, folder.Options("seeing") with { Evaluation = Evaluation(Candidates("p1", "p2")) with { Steps = 1 } });
        Assert.Equal(folder.Weights("blind"), folder.Weights("seeing"));
    }

    [Fact]
    public void What_cannot_be_measured_is_said_before_the_first_step()
    {
        Fails("--eval-candidates", Evaluation(null));
        Fails("no passage \"elsewhere\"", Evaluation(Candidates("p1", "elsewhere")));
        Fails("none of the judged queries", Evaluation(Run(("other", ["p1"]))));
        Fails("--eval-top-k", Evaluation(Candidates("p1")) with { Candidates = 0 });
        Fails("--metric-for-best-model", Evaluation(Candidates("p1")) with { Metric = "accuracy" });
    }

    private void Fails(string word, EvaluationOptions evaluation)
    {
        string output = $"refused-{Guid.NewGuid():n}";
        Assert.Contains(word, Assert.Throws<BgeMetalException>(() => RerankerTrainer.Run(folder.Model, Task, folder.Options(output) with { Evaluation = evaluation })).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(folder.Out(output), "train_log.csv")));
    }

    private EvaluationOptions Evaluation(string? candidates) => new() { DataDirectory = Data, CandidateFile = candidates };

    /// <summary>These passages for every query.</summary>
    private string Candidates(params string[] passages) => Run([.. Enumerable.Range(0, 6).Select(i => ($"q{i}", passages))]);

    private string Run(params (string Query, string[] Passages)[] lists)
    {
        RetrievalRun run = new();
        foreach ((string query, string[] passages) in lists) run.Add(query, passages.Select((id, i) => new RankedPassage(id, -i)));
        string path = folder.Out($"run-{Guid.NewGuid():n}.trec");
        run.WriteTrec(path);
        return path;
    }

    /// <summary>nDCG@10 of a saved reranker on the first hits of a run, by the public classes.</summary>
    private double Measure(string model, string candidates, int depth)
    {
        RetrievalDataset data = RetrievalDataset.Load(Data);
        RetrievalRun run = RetrievalRun.ReadTrec(candidates), reordered = new();
        using Reranker reranker = Reranker.Load(model);
        foreach (RetrievalQuery query in data.Queries)
        {
            string[] ids = [.. run.Of(query.Id).Take(depth).Select(passage => passage.Id)];
            float[] scores = reranker.Score(query.Text, [.. ids.Select(id => data.Corpus.First(passage => passage.Id == id).FullText)]);
            reordered.Add(query.Id, ids.Zip(scores, (id, score) => new RankedPassage(id, score)));
        }
        return RetrievalMetrics.Evaluate(data.Judgements, reordered, [10])["ndcg@10"];
    }
}
