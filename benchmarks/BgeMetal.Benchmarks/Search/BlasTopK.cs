namespace BgeMetal.Benchmarks.Search;

/// <summary>
/// The peer that a performance engineer writes: all scores of a block of queries and a block of rows by OpenBLAS' SGEMM, then a pass over them that keeps each query's best,
/// compared with its threshold first; on as many threads as the product. Memory: the block of scores.
/// </summary>
internal sealed unsafe class BlasTopK(OpenBlas blas, float[] corpus, int dimensions, int threads) : ITopKEngine
{
    private const int BlockRows = 8192, BlockQueries = 1024;

    private readonly float[] block = GC.AllocateUninitializedArray<float>(BlockRows * BlockQueries, pinned: true);

    /// <inheritdoc/>
    public string Name { get; } = "openblas-sgemm";

    /// <inheritdoc/>
    public void Search(float[] queries, int k, long[] rows, float[] scores)
    {
        int all = queries.Length / dimensions;
        for (int first = 0; first < all; first += BlockQueries)
            SearchBlock(queries, first, Math.Min(BlockQueries, all - first), k, rows, scores);
    }

    /// <inheritdoc/>
    public void Dispose() { }

    private void SearchBlock(float[] queries, int first, int count, int k, long[] rows, float[] scores)
    {
        BestRows[] best = [.. Enumerable.Range(0, count).Select(_ => new BestRows(k))];
        int total = corpus.Length / dimensions;
        fixed (float* query = queries, row = corpus, score = block)
            for (int start = 0; start < total; start += BlockRows)
            {
                int width = Math.Min(BlockRows, total - start);
                blas.MultiplyTransposed(query + ((nint)first * dimensions), row + ((nint)start * dimensions), score, count, width, dimensions);
                int from = start;
                Parallel.For(0, count, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => best[i].Offer(block.AsSpan(i * width, width), from));
            }
        for (int i = 0; i < count; i++)
            best[i].CopyTo(rows.AsSpan((first + i) * k, k), scores.AsSpan((first + i) * k, k));
    }
}
