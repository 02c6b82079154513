namespace BgeMetal.Retrieval;

/// <summary>How a reranker scores.</summary>
public sealed record RerankerOptions
{
    /// <summary>Tokens a pair is cut to (the longer side first), special tokens included. Null: the model's own limit, at most 512.</summary>
    public int? MaxLength { get; init; }

    /// <summary>Tokens one thread takes through the model at a time; memory grows with it, results do not depend on it.</summary>
    public int BatchTokens { get; init; } = 384;

    /// <summary>Whether scores are passed through the sigmoid, to lie between 0 and 1; raw logits otherwise.</summary>
    public bool Normalize { get; init; }

    /// <summary>Where to compute.</summary>
    public ComputeOptions Compute { get; init; } = new();
}
