using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The best k (score, row) pairs of each query, one set of heaps a worker. The order is total: higher scores first, among equal scores the lower row
/// first, NaN after everything else; so the k best are a set that does not depend on who saw which row. The root of a heap is its worst entry.
/// </summary>
internal unsafe struct TopKHeaps
{
    private long* _rows;                                  // [workers][queries][k]
    private float* _scores;                               // [workers][queries][k]
    private float* _thresholds;                           // [workers][padded]: the worst kept score, -infinity while there is room
    private int* _counts;                                 // [workers][padded]
    private int _queries;
    private int _padded;
    private int _k;

    /// <summary>Bytes for <paramref name="workers"/> sets of heaps.</summary>
    public static long SizeBytes(int workers, int queries, int k) =>
        workers * ((long)queries * k * (sizeof(long) + sizeof(float)) + (Padded(queries) * 2L * sizeof(float)));

    /// <summary>Lays empty heaps into <paramref name="memory"/>.</summary>
    public void Start(byte* memory, int workers, int queries, int k)
    {
        (_queries, _padded, _k) = (queries, Padded(queries), k);
        long entries = (long)workers * queries * k, columns = (long)workers * _padded;
        _rows = (long*)memory;
        _scores = (float*)(_rows + entries);
        _thresholds = _scores + entries;
        _counts = (int*)(_thresholds + columns);
        for (long i = 0; i < columns; i++)
        {
            _thresholds[i] = float.NegativeInfinity;
            _counts[i] = 0;
        }
    }

    /// <summary>The thresholds of a worker: a score below thresholds[query] cannot enter that heap. Readable up to the next multiple of 32.</summary>
    public readonly float* Thresholds(int worker) => _thresholds + ((nint)worker * _padded);

    /// <summary>Enters a pair if it is among the best k so far.</summary>
    public readonly void Offer(int worker, int query, float score, long row)
    {
        nint column = ((nint)worker * _padded) + query;
        nint heap = (((nint)worker * _queries) + query) * _k;
        float* scores = _scores + heap;
        long* rows = _rows + heap;
        int count = _counts[column];
        if (count < _k)
        {
            int at = count;
            for (; at > 0 && Worse(score, row, scores[(at - 1) / 2], rows[(at - 1) / 2]); at = (at - 1) / 2)
                (scores[at], rows[at]) = (scores[(at - 1) / 2], rows[(at - 1) / 2]);
            (scores[at], rows[at]) = (score, row);
            _counts[column] = ++count;
            if (count < _k) return;
        }
        else if (Worse(scores[0], rows[0], score, row))
        {
            SiftDown(scores, rows, _k, score, row);
        }
        else
        {
            return;
        }
        _thresholds[column] = float.IsNaN(scores[0]) ? float.NegativeInfinity : scores[0];
    }

    /// <summary>Joins all workers' heaps of a query and writes them best first, with -1 and -infinity behind the last. Empties the heaps.</summary>
    public readonly void Finish(int query, int workers, long* indices, float* scores)
    {
        for (int worker = 1; worker < workers; worker++)
        {
            nint heap = (((nint)worker * _queries) + query) * _k;
            int entries = _counts[((nint)worker * _padded) + query];
            for (int i = 0; i < entries; i++) Offer(0, query, _scores[heap + i], _rows[heap + i]);
        }
        float* heapScores = _scores + ((nint)query * _k);
        long* heapRows = _rows + ((nint)query * _k);
        int count = _counts[query];
        for (int i = count; i < _k; i++) (indices[i], scores[i]) = (-1, float.NegativeInfinity);
        for (int last = count - 1; last >= 0; last--)
        {
            (indices[last], scores[last]) = (heapRows[0], heapScores[0]);
            SiftDown(heapScores, heapRows, last, heapScores[last], heapRows[last]);
        }
    }

    private static int Padded(int queries) => (queries + 31) / 32 * 32;

    // Puts a pair at the root of a heap of count entries and lets it sink.
    private static void SiftDown(float* scores, long* rows, int count, float score, long row)
    {
        int at = 0;
        while (true)
        {
            int child = (2 * at) + 1;
            if (child >= count) break;
            if (child + 1 < count && Worse(scores[child + 1], rows[child + 1], scores[child], rows[child])) child++;
            if (!Worse(scores[child], rows[child], score, row)) break;
            (scores[at], rows[at]) = (scores[child], rows[child]);
            at = child;
        }
        (scores[at], rows[at]) = (score, row);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Worse(float score, long row, float otherScore, long otherRow)
    {
        if (score < otherScore) return true;
        if (score > otherScore) return false;
        if (score == otherScore) return row > otherRow;
        bool isNaN = float.IsNaN(score);
        return isNaN == float.IsNaN(otherScore) ? row > otherRow : isNaN;
    }
}
