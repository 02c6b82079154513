using System.Numerics;

namespace BgeMetal.Benchmarks.Search;

/// <summary>The best k scores of a stream: a heap with the worst of them on top, which a score must beat. Equal scores keep the earlier row.</summary>
internal sealed class BestRows(int k)
{
    private readonly PriorityQueue<long, (float Score, long Later)> heap = new(k + 1);
    private float threshold = float.NegativeInfinity;

    /// <summary>Takes a run of scores, of rows <paramref name="firstRow"/> and on; most are passed over a vector at a time.</summary>
    public void Offer(ReadOnlySpan<float> scores, long firstRow)
    {
        int i = 0;
        for (; i + Vector<float>.Count <= scores.Length; i += Vector<float>.Count)
            if (heap.Count < k || Vector.GreaterThanAny(new Vector<float>(scores[i..]), new Vector<float>(threshold)))
                for (int j = i; j < i + Vector<float>.Count; j++)
                    Offer(scores[j], firstRow + j);
        for (; i < scores.Length; i++)
            Offer(scores[i], firstRow + i);
    }

    /// <summary>Writes the rows and scores, best first, and empties the heap.</summary>
    public void CopyTo(Span<long> rows, Span<float> scores)
    {
        rows.Fill(-1);
        scores.Fill(float.NegativeInfinity);
        for (int place = heap.Count - 1; place >= 0; place--)
        {
            heap.TryDequeue(out rows[place], out (float Score, long) key);
            scores[place] = key.Score;
        }
    }

    private void Offer(float score, long row)
    {
        if (heap.Count < k)
            heap.Enqueue(row, (score, -row));
        else if (score > threshold)
            heap.EnqueueDequeue(row, (score, -row));
        if (heap.Count == k && heap.TryPeek(out _, out (float Score, long) worst))
            threshold = worst.Score;
    }
}
