namespace BgeMetal.Text;

/// <summary>How many tokens of each text stay, as Hugging Face tokenizers decide it.</summary>
internal static class PairTruncation
{
    private const string What = "cannot cut the text to the maximum length";

    /// <summary>The lengths to keep so that together they are at most <paramref name="limit"/> (special tokens already taken off).</summary>
    /// <param name="first">Tokens of the first text.</param>
    /// <param name="second">Tokens of the second text; -1 if there is none.</param>
    /// <param name="limit">The largest sum.</param>
    /// <param name="strategy">Which text is cut.</param>
    /// <exception cref="BgeMetalException">The text to be cut is missing or would lose all its tokens.</exception>
    public static (int First, int Second) Lengths(int first, int second, int limit, TruncationStrategy strategy)
    {
        if (strategy == TruncationStrategy.None) return (first, second);
        if (limit == 0) return (0, Math.Min(second, 0));
        long excess = (long)first + Math.Max(second, 0) - limit;
        if (excess <= 0) return (first, second);
        switch (strategy)
        {
            case TruncationStrategy.LongestFirst:
                return second < 0 ? (limit, second) : Longest(first, second, limit);
            case TruncationStrategy.OnlyFirst:
                if (first <= excess) throw new BgeMetalException(What, $"the first text has {first} tokens and {excess} would have to go");
                return ((int)(first - excess), second);
            default:
                if (second < 0) throw new BgeMetalException(What, "only the second text may be cut, and there is none");
                if (second <= excess) throw new BgeMetalException(What, $"the second text has {second} tokens and {excess} would have to go");
                return (first, (int)(second - excess));
        }
    }

    private static (int First, int Second) Longest(int first, int second, int limit)
    {
        bool swapped = first > second;
        int shorter = Math.Min(first, second);
        int longer = shorter > limit ? shorter : Math.Max(shorter, limit - shorter);
        if ((long)shorter + longer > limit)
        {
            shorter = limit / 2;
            longer = shorter + limit % 2;
        }
        return swapped ? (longer, shorter) : (shorter, longer);
    }
}
