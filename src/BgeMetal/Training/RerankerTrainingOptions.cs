namespace BgeMetal.Training;

/// <summary>Training of a cross-encoder; names and defaults are FlagEmbedding's.</summary>
public sealed record RerankerTrainingOptions
{
    /// <summary>Files and folders of <c>{"query","pos","neg"}</c> rows.</summary>
    public required IReadOnlyList<string> TrainData { get; init; }

    /// <summary>The most rows of one file.</summary>
    public int MaxRowsPerFile { get; init; } = 100_000_000;

    /// <summary>Whether malformed rows are counted and left out instead of ending the run.</summary>
    public bool SkipInvalid { get; init; }

    /// <summary>Pairs of a query: one positive, the rest negatives.</summary>
    public int TrainGroupSize { get; init; } = 8;

    /// <summary>Tokens a pair is cut to, special tokens included.</summary>
    public int MaxLength { get; init; } = 512;

    /// <summary>With this or <see cref="PassageMaxLength"/> query and passage are cut on their own first, and then the passage; null for the longer text first.</summary>
    public int? QueryMaxLength { get; init; }

    /// <summary>See <see cref="QueryMaxLength"/>; where only one is given, the other is FlagEmbedding's 32 or 128.</summary>
    public int? PassageMaxLength { get; init; }

    /// <summary>Whether the rows' teacher scores are learnt from, besides the labels.</summary>
    public bool KnowledgeDistillation { get; init; }

    /// <summary>Pairs taken through the model at a time, in whole groups and at least one; 0 takes the whole batch at once. Does not change the result but for rounding.</summary>
    public int SubBatchSize { get; init; }

    /// <summary>Put before each query; null for nothing.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>How instruction and query are joined, Python's two-value format.</summary>
    public string QueryInstructionFormat { get; init; } = "{}{}";

    /// <summary>Put before each passage; null for nothing.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>How instruction and passage are joined.</summary>
    public string PassageInstructionFormat { get; init; } = "{}{}";
}
