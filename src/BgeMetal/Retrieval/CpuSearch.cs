using System.Collections.Concurrent;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Retrieval;

/// <summary>Exact search on the CPU, block by block so that it can be cancelled. See <see cref="TopK"/> for the cost.</summary>
/// <param name="corpus">The tables.</param>
/// <param name="dimensions">Values in a vector.</param>
/// <param name="threads">Threads of a search; 0 or less for one a core.</param>
internal sealed unsafe class CpuSearch(IReadOnlyList<VectorTable> corpus, int dimensions, int threads) : IExactSearch
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

    /// <inheritdoc/>
    public void Run(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct)
    {
        fixed (float* query = queries, score = scores)
        fixed (long* row = rows)
        {
            using TopK search = new(Team(threads), query, dimensions, queries.Length / dimensions, dimensions, k);
            long firstRow = 0;
            foreach (VectorTable table in corpus)
            {
                for (long done = 0; done < table.Count; done += BlockRows)
                {
                    ct.ThrowIfCancellationRequested();
                    search.Add(table.At(done), table.Stride, Math.Min(BlockRows, table.Count - done), firstRow + done);
                }
                firstRow += table.Count;
            }
            search.Finish(row, score);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}
