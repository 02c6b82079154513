using BgeMetal.Data;

namespace BgeMetal.Retrieval;

/// <summary>Which sequences go through the model together.</summary>
internal sealed class ChunkPlan
{
    /// <summary>Below so many tokens a thread, sharing one pass over the weights beats giving each thread its own texts.</summary>
    private const int TokensWorthAThread = 48;

    private readonly int[] _order;
    private readonly List<int> _starts;

    private ChunkPlan(int[] order, List<int> starts, bool splitInside)
    {
        _order = order;
        _starts = starts;
        SplitInside = splitInside;
    }

    /// <summary>Chunks to run.</summary>
    public int Chunks => _starts.Count - 1;

    /// <summary>Whether chunks run one after another, the team splitting inside each operation.</summary>
    public bool SplitInside { get; }

    /// <summary>The sequences of chunk <paramref name="chunk"/>, by index.</summary>
    public ReadOnlySpan<int> Members(int chunk) => _order.AsSpan(_starts[chunk], _starts[chunk + 1] - _starts[chunk]);

    /// <summary>Longest first, so that the last chunks to finish are short; chunks of at most <paramref name="chunkTokens"/> tokens or one text.</summary>
    public static ChunkPlan Make(IReadOnlyList<TokenSequence> sequences, int chunkTokens, int threads)
    {
        int[] order = [.. Enumerable.Range(0, sequences.Count)];
        Array.Sort(order, (a, b) => sequences[a].Length != sequences[b].Length ? sequences[b].Length.CompareTo(sequences[a].Length) : a.CompareTo(b));
        long total = sequences.Sum(sequence => (long)sequence.Length);
        bool splitInside = threads > 1 && (sequences.Count == 1 || total < (long)threads * TokensWorthAThread);
        long target = splitInside ? chunkTokens : BalancedTarget(total, chunkTokens, threads);
        List<int> starts = [0];
        long tokens = 0;
        for (int i = 0; i < order.Length; i++)
        {
            int length = sequences[order[i]].Length;
            if (tokens > 0 && tokens + length > target)
            {
                starts.Add(i);
                tokens = 0;
            }
            tokens += length;
        }
        starts.Add(order.Length);
        return new ChunkPlan(order, starts, splitInside);
    }

    /// <summary>Tokens a chunk, at most <paramref name="chunkTokens"/>, so that the number of chunks is a multiple of the threads and all end together.</summary>
    private static long BalancedTarget(long total, int chunkTokens, int threads)
    {
        if (threads == 1) return chunkTokens;
        long rounds = (total + (long)chunkTokens * threads - 1) / ((long)chunkTokens * threads);
        return Math.Max(1, (total + rounds * threads - 1) / (rounds * threads));
    }
}
