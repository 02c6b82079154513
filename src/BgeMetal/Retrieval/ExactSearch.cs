using System.Collections.Concurrent;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Retrieval;

/// <summary>Exact top-k by inner product over vectors in memory, mapped or not, block by block so that it can be cancelled. See <see cref="TopK"/> for order and cost.</summary>
internal static unsafe class ExactSearch
{
    /// <summary>About 0.1 s of work for a few hundred queries; small against a corpus that is worth cancelling, large against the cost of a block.</summary>
    private const int BlockRows = 1 << 15;

    /// <summary>Teams are kept for the life of the process: their threads sleep between searches, and a search never has to wait for one to stop.</summary>
    private static readonly ConcurrentDictionary<int, Lazy<WorkerTeam>> s_teams = new();

    /// <summary>The team of so many threads; 0 or less for one thread a core.</summary>
    public static WorkerTeam Team(int threads)
    {
        threads = Math.Min(threads <= 0 ? Environment.ProcessorCount : threads, 1024);
        return threads == 1 ? WorkerTeam.Single : s_teams.GetOrAdd(threads, static n => new Lazy<WorkerTeam>(() => new WorkerTeam(n))).Value;
    }

    /// <summary>
    /// Finds the k best of <paramref name="rows"/> rows for each of m queries. Queries are [m, dim] without gaps, corpus rows <paramref name="stride"/> floats apart.
    /// The results are [m, k], filled up with -1 and negative infinity where there are fewer than k rows.
    /// </summary>
    /// <exception cref="OperationCanceledException">The token was cancelled; looked at between blocks.</exception>
    public static void Run(WorkerTeam team, ReadOnlySpan<float> queries, int m, int dim, float* corpus, int stride, long rows, int k, Span<long> indices, Span<float> scores, CancellationToken ct)
    {
        fixed (float* query = queries, score = scores)
        fixed (long* index = indices)
        {
            using TopK search = new(team, query, dim, m, dim, k);
            Add(search, corpus, stride, rows, 0, ct);
            search.Finish(index, score);
        }
    }

    /// <summary>Goes on with a search over more rows, the first of which is number <paramref name="firstRow"/>.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled; looked at between blocks.</exception>
    public static void Add(TopK search, float* corpus, int stride, long rows, long firstRow, CancellationToken ct)
    {
        for (long done = 0; done < rows; done += BlockRows)
        {
            ct.ThrowIfCancellationRequested();
            search.Add(corpus + (done * stride), stride, Math.Min(BlockRows, rows - done), firstRow + done);
        }
    }
}
