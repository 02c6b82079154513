using System.Numerics.Tensors;

namespace BgeMetal.Benchmarks.Search;

/// <summary>
/// The peer that a .NET developer writes without a search library: <see cref="TensorPrimitives"/>.Dot for every row and query, the best k in a sorted list; with several threads
/// each takes a contiguous part of the rows and the lists are merged.
/// </summary>
internal sealed class DotLoop(float[] corpus, int dimensions, int threads) : ITopKEngine
{
    /// <inheritdoc/>
    public string Name { get; } = "tensorprimitives-dot";

    /// <inheritdoc/>
    public void Search(float[] queries, int k, long[] rows, float[] scores)
    {
        int count = corpus.Length / dimensions;
        for (int query = 0; query < queries.Length / dimensions; query++)
        {
            ReadOnlyMemory<float> vector = queries.AsMemory(query * dimensions, dimensions);
            Best[] parts = new Best[threads];
            if (threads == 1)
                parts[0] = Scan(vector.Span, k, 0, count);
            else
                Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads },
                    part => parts[part] = Scan(vector.Span, k, (int)((long)count * part / threads), (int)((long)count * (part + 1) / threads)));
            Best best = parts[0];
            foreach (Best part in parts.Skip(1))
                for (int i = 0; i < part.Count; i++)
                    best.Offer(part.Rows[i], part.Scores[i]);
            best.Rows.CopyTo(rows, (long)query * k);
            best.Scores.CopyTo(scores, (long)query * k);
        }
    }

    /// <inheritdoc/>
    public void Dispose() { }

    private Best Scan(ReadOnlySpan<float> query, int k, int first, int end)
    {
        Best best = new(k);
        for (int row = first; row < end; row++)
        {
            float score = TensorPrimitives.Dot(query, corpus.AsSpan(row * dimensions, dimensions));
            if (score > best.Threshold)
                best.Offer(row, score);
        }
        return best;
    }

    /// <summary>The best k so far, best first; an offer is ranked after equal scores, so rows must come in ascending order.</summary>
    private sealed class Best
    {
        public Best(int k)
        {
            Rows = new long[k];
            Scores = new float[k];
            Array.Fill(Rows, -1);
            Array.Fill(Scores, float.NegativeInfinity);
        }

        public long[] Rows { get; }
        public float[] Scores { get; }
        public int Count { get; private set; }
        public float Threshold => Scores[^1];

        public void Offer(long row, float score)
        {
            if (!(score > Threshold))
                return;
            int place = Scores.Length - 1;
            for (; place > 0 && score > Scores[place - 1]; place--)
                (Rows[place], Scores[place]) = (Rows[place - 1], Scores[place - 1]);
            (Rows[place], Scores[place]) = (row, score);
            Count = Math.Min(Count + 1, Scores.Length);
        }
    }
}
