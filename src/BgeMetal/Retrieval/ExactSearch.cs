using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>
/// Exact top-k by inner product over a corpus of one or more tables, whose rows count through. The results do not depend on where or with how many threads it runs: a score is one
/// chain of binary32 multiply-adds over the columns, equal scores go by row number, NaN ranks last. Calls from several threads are fine.
/// </summary>
internal interface IExactSearch : IDisposable
{
    /// <summary>Finds the k best rows for each query. The tables must stay until it returns.</summary>
    /// <param name="queries">[m, dimensions], without gaps.</param>
    /// <param name="k">Hits a query, at least 1.</param>
    /// <param name="rows">[m, k] receives row numbers, best first; -1 where there are fewer than k rows.</param>
    /// <param name="scores">[m, k] receives inner products; negative infinity where there are fewer than k rows.</param>
    /// <param name="ct">Looked at between blocks.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    /// <exception cref="BgeMetalException">A GPU failed or has not enough memory.</exception>
    void Run(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct);
}

/// <summary>Chooses where a corpus is searched.</summary>
internal static class ExactSearch
{
    /// <summary>
    /// A search of <paramref name="corpus"/> on <paramref name="device"/> where that is a GPU and can number the rows, else on so many threads (0 for one a core).
    /// </summary>
    public static IExactSearch Over(IReadOnlyList<VectorTable> corpus, int dimensions, int threads, Device? device) =>
        device is { Kind: DeviceKind.Cuda } && corpus.Sum(table => table.Count) <= Ops.TopKOp.MostRows ? new CudaSearch(corpus, dimensions, threads, device) : new CpuSearch(corpus, dimensions, threads);
}
