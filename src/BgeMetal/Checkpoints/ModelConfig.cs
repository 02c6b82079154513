using System.Collections.Immutable;
using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// An encoder's config.json, checked: BERT or XLM-RoBERTa, absolute positions, exact GELU, no decoder. Names follow Hugging Face transformers
/// (hidden_size is <see cref="HiddenSize"/>); fields that this program does not use are kept and written back by <see cref="ToJson"/>.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>The <see cref="ModelType"/> of BERT.</summary>
    public const string Bert = "bert";

    /// <summary>The <see cref="ModelType"/> of XLM-RoBERTa.</summary>
    public const string XlmRoberta = "xlm-roberta";

    private readonly double? _classifierDropout;

    /// <summary>"bert" or "xlm-roberta".</summary>
    public required string ModelType { get; init; }

    /// <summary>Rows of the word embeddings; token ids are below it.</summary>
    public required int VocabSize { get; init; }

    /// <summary>Width of the hidden states and of the embedding vectors; a multiple of <see cref="NumAttentionHeads"/>.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of transformer layers.</summary>
    public required int NumHiddenLayers { get; init; }

    /// <summary>Attention heads of each layer.</summary>
    public required int NumAttentionHeads { get; init; }

    /// <summary>Width of the feed-forward block's inner layer.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Rows of the position embeddings. Texts may have <see cref="LongestSequence"/> tokens, which is less for XLM-RoBERTa.</summary>
    public required int MaxPositionEmbeddings { get; init; }

    /// <summary>Rows of the token type embeddings: 2 for BERT, 1 for XLM-RoBERTa.</summary>
    public int TypeVocabSize { get; init; } = 2;

    /// <summary>Epsilon added to the variance in every LayerNorm: 1e-12 for BERT, 1e-5 for XLM-RoBERTa.</summary>
    public double LayerNormEps { get; init; } = 1e-12;

    /// <summary>Id of the padding token.</summary>
    public int PadTokenId { get; init; }

    /// <summary>Dropout after the embeddings and after each block, in training.</summary>
    public double HiddenDropoutProb { get; init; } = 0.1;

    /// <summary>Dropout of the attention probabilities, in training (attention_probs_dropout_prob).</summary>
    public double AttentionDropoutProb { get; init; } = 0.1;

    /// <summary>Dropout of the classification head, in training; <see cref="HiddenDropoutProb"/> where the file says null.</summary>
    public double ClassifierDropout { get => _classifierDropout ?? HiddenDropoutProb; init => _classifierDropout = value; }

    /// <summary>Outputs of the classification head: the number of entries of id2label, 2 where there is none; 1 for a reranker.</summary>
    public int NumLabels { get; init; } = 2;

    /// <summary>The model classes the checkpoint was saved from, as "BertModel".</summary>
    public ImmutableArray<string> Architectures { get; init; } = [];

    /// <summary>The activation of the feed-forward block, always "gelu" (the exact one, with erf).</summary>
    public string HiddenAct { get; init; } = "gelu";

    /// <summary>Standard deviation of fresh weights.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>Width of one attention head.</summary>
    public int HeadSize => HiddenSize / NumAttentionHeads;

    /// <summary>The position id of a text's first token: 0 for BERT, <see cref="PadTokenId"/> + 1 for XLM-RoBERTa.</summary>
    public int FirstPosition => ModelType == XlmRoberta ? PadTokenId + 1 : 0;

    /// <summary>The most tokens a text may have, special tokens included.</summary>
    public int LongestSequence => MaxPositionEmbeddings - FirstPosition;

    /// <summary>The fields of the file that have no property here, by name; values are raw JSON.</summary>
    internal ImmutableSortedDictionary<string, JsonElement> OtherFields { get; init; } = ImmutableSortedDictionary.Create<string, JsonElement>(StringComparer.Ordinal);

    /// <summary>Reads <paramref name="directory"/>/config.json.</summary>
    /// <exception cref="BgeMetalException">The file is missing or not JSON, or a field is missing, of the wrong kind, out of range or asks for
    /// something that these encoders do not do; the message names the field, its value and what was expected.</exception>
    public static ModelConfig Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string path = Path.Combine(directory, "config.json");
        if (!File.Exists(path)) throw CheckpointErrors.Corrupt(directory, Directory.Exists(directory) ? "the directory has no config.json" : "there is no such directory");
        return ModelConfigReader.Read(JsonFile.ReadObject(path));
    }

    /// <summary>The text of a config.json that transformers loads: two spaces of indentation, keys sorted, unknown fields as they came.</summary>
    public string ToJson() => ModelConfigWriter.Write(this, _classifierDropout);
}
