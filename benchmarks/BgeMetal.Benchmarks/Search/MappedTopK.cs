using BgeMetal.Data;
using BgeMetal.Retrieval.Mining;

namespace BgeMetal.Benchmarks.Search;

/// <summary>The miner's search: vectors in files that are mapped into memory, the queries in the miner's blocks.</summary>
internal sealed class MappedTopK : ITopKEngine
{
    private const int BlockQueries = 1024;

    private readonly MiningFolder folder;
    private readonly MiningCorpus corpus;

    /// <summary>Writes and maps the vectors.</summary>
    public MappedTopK(string directory, SyntheticVectors vectors, int passages, int threads)
    {
        folder = MiningFolder.Open(directory, "search");
        int first = 0;
        corpus = MiningCorpus.Build(Enumerable.Range(0, passages).Select(i => new TextInput { Text = $"p{i}" }), folder, (texts, _) =>
        {
            float[] rows = vectors.Rows(first, texts.Count);
            first += texts.Count;
            return rows;
        }, vectors.Dimensions, threads, device: null, CancellationToken.None);
    }

    /// <inheritdoc/>
    public string Name { get; } = "bgemetal-search";

    /// <inheritdoc/>
    public void Search(float[] queries, int k, long[] rows, float[] scores)
    {
        int all = queries.Length / corpus.Dimensions;
        for (int first = 0; first < all; first += BlockQueries)
        {
            int count = Math.Min(BlockQueries, all - first);
            corpus.Search(queries.AsSpan(first * corpus.Dimensions, count * corpus.Dimensions), k, rows.AsSpan(first * k, count * k), scores.AsSpan(first * k, count * k), CancellationToken.None);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        corpus.Dispose();
        folder.Delete();
    }
}
