using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Training;

/// <summary>Six passages with a query each, in BEIR's layout.</summary>
internal static class RetrievalFolder
{
    /// <summary>Writes the folder and returns it.</summary>
    public static string Write(string root)
    {
        Directory.CreateDirectory(Path.Combine(root, "qrels"));
        string[] words = ["cat", "fox", "river", "mat", "hills", "brown"];
        File.WriteAllLines(Path.Combine(root, "corpus.jsonl"), words.Select((word, i) => $$"""{"_id":"p{{i}}","text":"one {{word}} and the {{words[(i + 1) % 6]}} over two hills"}"""));
        File.WriteAllLines(Path.Combine(root, "queries.jsonl"), words.Select((word, i) => $$"""{"_id":"q{{i}}","text":"the {{word}} sat"}"""));
        File.WriteAllLines(Path.Combine(root, "qrels", "test.tsv"), words.Select((_, i) => $"q{i}\tp{i}\t1"));
        return root;
    }

    /// <summary>nDCG@10 of a saved model on such a folder, by the public classes.</summary>
    public static double Measure(string model, string root)
    {
        RetrievalDataset data = RetrievalDataset.Load(root);
        using Embedder embedder = Embedder.Load(model);
        using FlatIndex index = FlatIndex.FromVectors(embedder.EmbedPassages([.. data.Corpus.Select(passage => passage.FullText)]).SelectMany(vector => vector).ToArray(),
            embedder.Dimensions, [.. data.Corpus.Select(passage => passage.Id)]);
        RetrievalRun run = new();
        foreach (RetrievalQuery query in data.Queries) run.Add(query.Id, index.Search(embedder.EmbedQueries([query.Text])[0], 10));
        return RetrievalMetrics.Evaluate(data.Judgements, run, [10])["ndcg@10"];
    }
}
