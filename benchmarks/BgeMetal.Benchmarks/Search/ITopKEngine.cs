namespace BgeMetal.Benchmarks.Search;

/// <summary>Exact search: the k rows of a corpus with the largest inner product with each query, best first, ties by the lower row.</summary>
internal interface ITopKEngine : IDisposable
{
    /// <summary>The name in tables.</summary>
    string Name { get; }

    /// <summary>Searches for every query (rows of <paramref name="queries"/>, row-major) and fills [queries, k] of rows and scores.</summary>
    void Search(float[] queries, int k, long[] rows, float[] scores);
}
