using BgeMetal.Checkpoints;

namespace BgeMetal.Training;

/// <summary>Which of FlagEmbedding's distillation losses a teacher's scores feed.</summary>
public enum DistillationLoss
{
    /// <summary>Cross-entropy with soft targets over the own group, added to the contrastive loss.</summary>
    KlDiv,

    /// <summary>BGE-M3's: each candidate against all columns that are not before it in its group, weighted by the teacher; replaces the contrastive loss.</summary>
    M3Kd,
}

/// <summary>Contrastive fine-tuning; names and defaults are FlagEmbedding's.</summary>
public sealed record FinetuneOptions
{
    /// <summary>Files and folders of <c>{"query","pos","neg"}</c> rows.</summary>
    public required IReadOnlyList<string> TrainData { get; init; }

    /// <summary>The most rows of one file.</summary>
    public int MaxRowsPerFile { get; init; } = 100_000_000;

    /// <summary>Whether malformed rows are counted and left out instead of ending the run.</summary>
    public bool SkipInvalid { get; init; }

    /// <summary>Passages of a query: one positive, the rest negatives.</summary>
    public int TrainGroupSize { get; init; } = 8;

    /// <summary>Similarities are divided by this.</summary>
    public double Temperature { get; init; } = 0.02;

    /// <summary>Whether vectors are normalised, so that similarity is the cosine; the inner product otherwise.</summary>
    public bool Normalize { get; init; } = true;

    /// <summary>How token vectors become one vector; null follows the model's files, else CLS.</summary>
    public PoolingMode? Pooling { get; init; }

    /// <summary>Whether the other queries' passages are negatives too.</summary>
    public bool InBatchNegatives { get; init; } = true;

    /// <summary>Whether every batch comes from one file.</summary>
    public bool SameDatasetWithinBatch { get; init; }

    /// <summary>With <see cref="SameDatasetWithinBatch"/>: files with fewer rows are merged within their folder.</summary>
    public int SmallThreshold { get; init; }

    /// <summary>With <see cref="SameDatasetWithinBatch"/>: merged small files with fewer rows than this together are left out.</summary>
    public int DropThreshold { get; init; }

    /// <summary>Whether the rows' teacher scores are learnt from.</summary>
    public bool KnowledgeDistillation { get; init; }

    /// <summary>How teacher scores are learnt from.</summary>
    public DistillationLoss DistillationLoss { get; init; }

    /// <summary>Matryoshka: the loss is the mean of the losses of the first so many components each; empty for all components alone.</summary>
    public IReadOnlyList<int> MatryoshkaDimensions { get; init; } = [];

    /// <summary>Whether the position table keeps its values.</summary>
    public bool FixPositionEmbedding { get; init; }

    /// <summary>Texts taken through the encoder at a time (gradient caching); 0 takes the whole batch at once. Does not change the result.</summary>
    public int SubBatchSize { get; init; }

    /// <summary>Tokens a query is cut to.</summary>
    public int QueryMaxLength { get; init; } = 32;

    /// <summary>Tokens a passage is cut to.</summary>
    public int PassageMaxLength { get; init; } = 128;

    /// <summary>Put before each query; null for nothing.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>How instruction and query are joined, Python's two-value format.</summary>
    public string QueryInstructionFormat { get; init; } = "{}{}";

    /// <summary>Put before each passage; null for nothing.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>How instruction and passage are joined.</summary>
    public string PassageInstructionFormat { get; init; } = "{}{}";
}
