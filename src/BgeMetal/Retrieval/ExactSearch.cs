using System.Numerics;

namespace BgeMetal.Retrieval;

/// <summary>Exact top-k by inner product over row-major vectors. Order: score, descending; equal scores by row, ascending; NaN last.</summary>
internal static unsafe class ExactSearch
{
    private const int TileRows = 256;

    /// <summary>
    /// Finds the k best rows for each of m queries. <paramref name="rowIndices"/> and <paramref name="scores"/> are [m, k], filled with -1 and -infinity where there
    /// are fewer than k rows. Rows and queries are zero-padded to <paramref name="stride"/>, a multiple of 16, in floats.
    /// </summary>
    /// <exception cref="OperationCanceledException">The token was cancelled; looked at once a tile.</exception>
    public static void Run(float* queries, int m, float* corpus, long rows, int stride, int k, Span<long> rowIndices, Span<float> scores, CancellationToken ct)
    {
        rowIndices.Fill(-1);
        scores.Fill(float.NegativeInfinity);
        int[] counts = new int[m];
        for (long tile = 0; tile < rows; tile += TileRows)
        {
            ct.ThrowIfCancellationRequested();
            long end = Math.Min(rows, tile + TileRows);
            for (int q = 0; q < m; q++)
            {
                Span<long> best = rowIndices.Slice(q * k, k);
                Span<float> bestScores = scores.Slice(q * k, k);
                for (long row = tile; row < end; row++) Offer(Dot(queries + ((long)q * stride), corpus + (row * stride), stride), row, best, bestScores, ref counts[q]);
            }
        }
    }

    /// <summary>Puts a row in its place among the best so far, if it has one. Rows come in ascending order, so an equal score goes behind.</summary>
    private static void Offer(float score, long row, Span<long> rows, Span<float> scores, ref int count)
    {
        int k = rows.Length;
        if (count == k && !(Rank(score) > Rank(scores[k - 1]))) return;
        int low = 0, high = count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (Rank(score) > Rank(scores[middle])) high = middle;
            else low = middle + 1;
        }

        int moved = Math.Min(count, k - 1) - low;
        rows.Slice(low, moved).CopyTo(rows[(low + 1)..]);
        scores.Slice(low, moved).CopyTo(scores[(low + 1)..]);
        rows[low] = row;
        scores[low] = score;
        count = Math.Min(count + 1, k);
    }

    private static float Rank(float score) => float.IsNaN(score) ? float.NegativeInfinity : score;

    private static float Dot(float* a, float* b, int length)
    {
        Vector<float> sum = Vector<float>.Zero;
        for (int i = 0; i < length; i += Vector<float>.Count) sum += Vector.Load(a + i) * Vector.Load(b + i);
        return Vector.Sum(sum);
    }
}
