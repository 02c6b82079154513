namespace BgeMetal.Training;

/// <summary>What pre-training minimises.</summary>
public enum PretrainObjective
{
    /// <summary>Masked words, and the text decoded from its CLS vector (Xiao et al. 2022, arXiv:2205.12035).</summary>
    RetroMae,

    /// <summary>The same, and the text's words found in the vectors of its other tokens (Xiao et al. 2022, arXiv:2211.08769).</summary>
    DupMae,
}

/// <summary>RetroMAE pre-training; names and defaults are FlagEmbedding's.</summary>
public sealed record PretrainOptions
{
    /// <summary>Files and folders of <c>{"text"}</c> rows.</summary>
    public required IReadOnlyList<string> TrainData { get; init; }

    /// <summary>Whether malformed rows are counted and left out instead of ending the run.</summary>
    public bool SkipInvalid { get; init; }

    /// <summary>Tokens a text is cut to, special tokens included.</summary>
    public int MaxSequenceLength { get; init; } = 512;

    /// <summary>Share of a text's tokens that the encoder has to guess.</summary>
    public double EncoderMaskProbability { get; init; } = 0.3;

    /// <summary>Share of a text's tokens that each position of the decoder does not see.</summary>
    public double DecoderMaskProbability { get; init; } = 0.5;

    /// <summary>What is minimised.</summary>
    public PretrainObjective Objective { get; init; }

    /// <summary>DupMAE: what the bag-of-words loss counts beside the other two.</summary>
    public double BagOfWordsWeight { get; init; } = 0.1;
}
