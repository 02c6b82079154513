namespace BgeMetal.Retrieval;

/// <summary>How a reranker scores.</summary>
public sealed record RerankerOptions
{
    /// <summary>Tokens a pair is cut to (the longer side first), special tokens included. Null: the model's own limit, at most 512.</summary>
    public int? MaxLength { get; init; }

    /// <summary>
    /// Tokens taken through the model at a time, by each CPU thread or by the GPU; memory grows with it, the CPU's results do not depend on it. Null: 384 a thread, 16384 on a GPU.
    /// </summary>
    public int? BatchTokens { get; init; }

    /// <summary>Whether scores are passed through the sigmoid, to lie between 0 and 1; raw logits otherwise.</summary>
    public bool Normalize { get; init; }

    /// <summary>Where to compute.</summary>
    public ComputeOptions Compute { get; init; } = new();
}
