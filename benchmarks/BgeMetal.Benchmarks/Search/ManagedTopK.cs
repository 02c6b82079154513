using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Benchmarks.Search;

/// <summary>The exact search of BgeMetal's CPU kernels over the same dense rows as the peer.</summary>
internal sealed unsafe class ManagedTopK(float[] corpus, int dimensions, int threads) : ITopKEngine
{
    private readonly WorkerTeam team = new(threads);

    /// <inheritdoc/>
    public string Name { get; } = "bgemetal";

    /// <inheritdoc/>
    public void Search(float[] queries, int k, long[] rows, float[] scores)
    {
        fixed (float* queryRows = queries, corpusRows = corpus, scoreRows = scores)
        fixed (long* found = rows)
            TopK.Search(team, queryRows, dimensions, queries.Length / dimensions, dimensions, corpusRows, dimensions, corpus.Length / dimensions, k, found, scoreRows);
    }

    /// <inheritdoc/>
    public void Dispose() => team.Dispose();
}
