using BgeMetal.Checkpoints;

namespace BgeMetal.Retrieval;

/// <summary>How a model embeds. What is null follows the model's own files.</summary>
public sealed record EmbedderOptions
{
    /// <summary>How token vectors become one vector. Null: 1_Pooling/config.json, else the mean for M3E and CLS for everything else.</summary>
    public PoolingMode? Pooling { get; init; }

    /// <summary>Whether vectors have unit length, so that the inner product is the cosine. Null: yes.</summary>
    public bool? Normalize { get; init; }

    /// <summary>Tokens a text is cut to, special tokens included. Null: the model's own limit, at most 512.</summary>
    public int? MaxLength { get; init; }

    /// <summary>
    /// Tokens taken through the model at a time, by each CPU thread or by the GPU; memory grows with it, the CPU's results do not depend on it. Null: 384 a thread, 16384 on a GPU.
    /// </summary>
    public int? BatchTokens { get; init; }

    /// <summary>Keep the first so many components (Matryoshka), normalised after the cut. Null: all.</summary>
    public int? Dimensions { get; init; }

    /// <summary>What is put before a query. Null: the model's published instruction, if it has one.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>Where to compute.</summary>
    public ComputeOptions Compute { get; init; } = new();
}
