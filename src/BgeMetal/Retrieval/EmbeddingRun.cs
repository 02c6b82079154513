namespace BgeMetal.Retrieval;

/// <summary>What a call did.</summary>
/// <param name="Texts">Texts, or pairs, computed.</param>
/// <param name="Tokens">Their tokens, special tokens included; there is no padding.</param>
/// <param name="Seconds">Wall time of tokenising and computing.</param>
public readonly record struct EmbeddingRun(long Texts, long Tokens, double Seconds)
{
    /// <summary>Both runs together.</summary>
    public static EmbeddingRun operator +(EmbeddingRun left, EmbeddingRun right) => Add(left, right);

    /// <summary>Both runs together.</summary>
    public static EmbeddingRun Add(EmbeddingRun left, EmbeddingRun right) =>
        new(left.Texts + right.Texts, left.Tokens + right.Tokens, left.Seconds + right.Seconds);
}
