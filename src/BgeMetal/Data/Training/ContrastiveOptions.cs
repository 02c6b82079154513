namespace BgeMetal.Data.Training;

/// <summary>How contrastive batches are made of rows.</summary>
internal sealed record ContrastiveOptions
{
    /// <summary>B: queries of a batch.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>G: passages of a query, one positive and G-1 negatives.</summary>
    public int GroupSize { get; init; } = 2;

    /// <summary>The most tokens of a query, special tokens included.</summary>
    public int QueryMaxLength { get; init; } = 64;

    /// <summary>The most tokens of a passage, special tokens included.</summary>
    public int PassageMaxLength { get; init; } = 256;

    /// <summary>The bound of ids given as <c>input_ids</c>; 0 for no check.</summary>
    public int VocabularySize { get; init; }

    /// <summary>The instruction for queries whose row and file have no prompt, or null for none.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>The instruction for passages, or null for none.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>How a query and its instruction are joined.</summary>
    public InstructionFormat QueryFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>How a passage and its instruction are joined.</summary>
    public InstructionFormat PassageFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>Whether batches carry a teacher's scores.</summary>
    public bool KnowledgeDistillation { get; init; }

    /// <summary>Whether every batch comes from one file (or from the merged small files of one folder), and the rows' <c>type</c> counts.</summary>
    public bool SameDatasetWithinBatch { get; init; }

    /// <summary>With <see cref="SameDatasetWithinBatch"/>: files with fewer rows are merged within their folder, or left out where they are named themselves.</summary>
    public int SmallThreshold { get; init; }

    /// <summary>With <see cref="SameDatasetWithinBatch"/>: merged small files with fewer rows than this together are left out.</summary>
    public int DropThreshold { get; init; }

    /// <summary>Whether rows come in random order.</summary>
    public bool Shuffle { get; init; } = true;

    /// <summary>Whether a last batch that is not full is left out.</summary>
    public bool DropLast { get; init; }

    /// <summary>The seed of every random choice.</summary>
    public int Seed { get; init; } = 42;

    /// <summary>What these options ask of a row. Batches of one file may go without a teacher's scores if no row of the batch has any.</summary>
    public TrainingRowRules Rules(bool hasTokenizer) =>
        new(GroupSize > 1, KnowledgeDistillation && !SameDatasetWithinBatch, QueryMaxLength, PassageMaxLength, VocabularySize, hasTokenizer);
}
