namespace BgeMetal.Testing.Reference;

/// <summary>The k best of given scores: higher first, then the lower row, NaN last; -1 and -infinity behind the last row.</summary>
public static class TopKReference
{
    public static (long[] Indices, float[] Scores) Select(float[] scores, int k)
    {
        long[] order = [.. Enumerable.Range(0, scores.Length).Select(i => (long)i)
            .OrderBy(i => float.IsNaN(scores[i]) ? 1 : 0).ThenByDescending(i => float.IsNaN(scores[i]) ? 0 : scores[i]).ThenBy(i => i)];
        long[] indices = [.. Enumerable.Range(0, k).Select(i => i < order.Length ? order[i] : -1)];
        return (indices, [.. indices.Select(i => i < 0 ? float.NegativeInfinity : scores[i])]);
    }
}
