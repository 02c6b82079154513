namespace BgeMetal.Training;

/// <summary>How the weights of a fresh model are drawn.</summary>
public enum Initialization
{
    /// <summary>Normal with standard deviation 0.02 (Devlin et al. 2019; as transformers does it). A mean of its vectors is a bag of words from the first step on.</summary>
    Bert,

    /// <summary>
    /// Attention that begins by comparing: a head's keys start equal to its queries, so that a token attends to tokens like itself (after Trockman and
    /// Kolter 2023, "Mimetic Initialization of Self-Attention Layers", whose query-key product is close to the identity likewise; values and outputs are left
    /// random here). For models that learn from little text and have to compare tokens across a text: rerankers, CLS vectors.
    /// </summary>
    Mimetic,
}

/// <summary>The sizes of a fresh model.</summary>
public sealed record FreshModelOptions
{
    /// <summary>Transformer layers.</summary>
    public int Layers { get; init; } = 4;

    /// <summary>Width of a token's vector; the heads divide it into multiples of 8, at most 128.</summary>
    public int HiddenSize { get; init; } = 256;

    /// <summary>Attention heads.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Width of the feed-forward block; 0 means four times the hidden size.</summary>
    public int IntermediateSize { get; init; }

    /// <summary>The most tokens of a text.</summary>
    public int MaxPositions { get; init; } = 512;

    /// <summary>How the weights are drawn.</summary>
    public Initialization Initialization { get; init; } = Initialization.Bert;

    /// <summary>How token vectors become one vector. A fresh model starts with the mean; CLS needs pre-training or <see cref="Initialization.Mimetic"/> first.</summary>
    public Checkpoints.PoolingMode Pooling { get; init; } = Checkpoints.PoolingMode.Mean;

    /// <summary>Seed of the weights.</summary>
    public int Seed { get; init; } = 42;

    /// <exception cref="BgeMetalException">A size is out of range.</exception>
    internal void Validate()
    {
        InRange("--layers", Layers, 1, 200);
        InRange("--hidden-size", HiddenSize, 8, 16384);
        InRange("--heads", Heads, 1, 1024);
        InRange("--intermediate-size", IntermediateSize, 0, 65536);
        InRange("--max-positions", MaxPositions, 3, 1 << 20);
        if (HiddenSize % Heads != 0 || HiddenSize / Heads % 8 != 0 || HiddenSize / Heads > 128)
            throw new BgeMetalException("option --heads", $"{Heads} heads divide {HiddenSize} into {(double)HiddenSize / Heads:0.##} a head, expected a multiple of 8 up to 128");
    }

    private static void InRange(string option, int value, int least, int most)
    {
        if (value < least || value > most) throw new BgeMetalException($"option {option}", $"{value} is out of range, expected {least} to {most}");
    }
}
