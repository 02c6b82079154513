using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// Turns config.json into a <see cref="ModelConfig"/>. Sizes must be given and lie below limits that are far above any published encoder, so that
/// no product of two of them overflows; what would change the computation (another activation, relative positions, a decoder) is refused.
/// </summary>
internal static class ModelConfigReader
{
    private const int LargestVocabulary = 1 << 24, LargestWidth = 1 << 16, LargestDepth = 1 << 10, LargestPositions = 1 << 20, LargestLabels = 1 << 16;

    /// <summary>The fields that are properties of <see cref="ModelConfig"/> or written from them.</summary>
    internal static readonly ImmutableHashSet<string> OwnFields =
    [
        "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
        "type_vocab_size", "layer_norm_eps", "pad_token_id", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
        "architectures", "hidden_act", "initializer_range", "position_embedding_type",
    ];

    internal static ModelConfig Read(JsonFile json)
    {
        ImmutableArray<string> architectures = ReadArchitectures(json);
        string modelType = ReadModelType(json, architectures);
        bool xlm = modelType == ModelConfig.XlmRoberta;
        RefuseOtherComputations(json);
        ModelConfig config = new()
        {
            ModelType = modelType,
            Architectures = architectures,
            VocabSize = json.Integer("vocab_size", 1, LargestVocabulary),
            HiddenSize = json.Integer("hidden_size", 1, LargestWidth),
            NumHiddenLayers = json.Integer("num_hidden_layers", 1, LargestDepth),
            NumAttentionHeads = json.Integer("num_attention_heads", 1, LargestWidth),
            IntermediateSize = json.Integer("intermediate_size", 1, LargestWidth * 4),
            MaxPositionEmbeddings = json.Integer("max_position_embeddings", 1, LargestPositions),
            TypeVocabSize = json.Integer("type_vocab_size", 1, LargestWidth, 2),
            LayerNormEps = json.Real("layer_norm_eps", 0, 1, 1e-12, lowerIncluded: false),
            PadTokenId = json.Integer("pad_token_id", 0, LargestVocabulary, xlm ? 1 : 0),
            HiddenDropoutProb = json.Real("hidden_dropout_prob", 0, 1, 0.1),
            AttentionDropoutProb = json.Real("attention_probs_dropout_prob", 0, 1, 0.1),
            NumLabels = ReadNumLabels(json),
            InitializerRange = json.Real("initializer_range", 0, 100, 0.02),
            OtherFields = ReadOtherFields(json),
        };
        if (json.Field("classifier_dropout") is not null) config = config with { ClassifierDropout = json.Real("classifier_dropout", 0, 1, 0) };
        CheckTogether(json, config);
        return config;
    }

    private static void CheckTogether(JsonFile json, ModelConfig config)
    {
        if (config.HiddenSize % config.NumAttentionHeads != 0)
            throw json.Wrong("num_attention_heads", json.Root.GetProperty("num_attention_heads"), $"a divisor of hidden_size {config.HiddenSize}");
        if ((long)config.VocabSize * config.HiddenSize > int.MaxValue)
            throw json.Wrong("vocab_size", json.Root.GetProperty("vocab_size"), $"at most {int.MaxValue / config.HiddenSize} rows of hidden_size {config.HiddenSize}");
        if ((long)config.IntermediateSize * config.HiddenSize > int.MaxValue)
            throw json.Wrong("intermediate_size", json.Root.GetProperty("intermediate_size"), $"at most {int.MaxValue / config.HiddenSize} with hidden_size {config.HiddenSize}");
        if ((long)config.MaxPositionEmbeddings * config.HiddenSize > int.MaxValue)
            throw json.Wrong("max_position_embeddings", json.Root.GetProperty("max_position_embeddings"), $"at most {int.MaxValue / config.HiddenSize} with hidden_size {config.HiddenSize}");
        if (config.PadTokenId >= config.VocabSize)
            throw CheckpointErrors.Corrupt(json.Path, $"field 'pad_token_id' is '{config.PadTokenId}', expected an id below vocab_size {config.VocabSize}");
        if (config.LongestSequence < 1)
            throw json.Wrong("max_position_embeddings", json.Root.GetProperty("max_position_embeddings"), $"more than the first position {config.FirstPosition}");
    }

    private static void RefuseOtherComputations(JsonFile json)
    {
        RefuseUnless(json, "hidden_act", "gelu");
        RefuseUnless(json, "position_embedding_type", "absolute");
        if (json.Flag("is_decoder", false)) throw json.Wrong("is_decoder", json.Root.GetProperty("is_decoder"), "false: only encoders are supported");
        if (json.Flag("add_cross_attention", false))
            throw json.Wrong("add_cross_attention", json.Root.GetProperty("add_cross_attention"), "false: only encoders are supported");
        if (json.Field("pruned_heads") is { ValueKind: JsonValueKind.Object } pruned && pruned.EnumerateObject().Any())
            throw json.Wrong("pruned_heads", pruned, "no pruned heads");
    }

    private static void RefuseUnless(JsonFile json, string field, string expected)
    {
        if (json.Text(field) is { } found && found != expected) throw json.Wrong(field, json.Root.GetProperty(field), $"'{expected}'");
    }

    private static string ReadModelType(JsonFile json, ImmutableArray<string> architectures)
    {
        const string Expected = "'bert' or 'xlm-roberta'";
        if (json.Text("model_type") is { } type)
            return type is ModelConfig.Bert or ModelConfig.XlmRoberta ? type : throw json.Wrong("model_type", json.Root.GetProperty("model_type"), Expected);
        foreach (string architecture in architectures)
        {
            if (architecture.StartsWith("XLMRoberta", StringComparison.Ordinal)) return ModelConfig.XlmRoberta;
            if (architecture.StartsWith("Bert", StringComparison.Ordinal)) return ModelConfig.Bert;
        }
        throw json.Missing("model_type", $"{Expected} (and 'architectures' names neither)");
    }

    private static ImmutableArray<string> ReadArchitectures(JsonFile json)
    {
        if (json.Field("architectures") is not { } list) return [];
        if (list.ValueKind != JsonValueKind.Array) throw json.Wrong("architectures", list, "a list of class names");
        ImmutableArray<string>.Builder names = ImmutableArray.CreateBuilder<string>();
        foreach (JsonElement item in list.EnumerateArray())
            names.Add(item.ValueKind == JsonValueKind.String && JsonFile.TryText(item) is { } name ? name : throw json.Wrong("architectures", item, "a class name"));
        return names.ToImmutable();
    }

    private static int ReadNumLabels(JsonFile json)
    {
        if (json.Field("id2label") is not { } labels) return json.Integer("num_labels", 1, LargestLabels, 2);
        if (labels.ValueKind != JsonValueKind.Object) throw json.Wrong("id2label", labels, "an object from ids to labels");
        int count = labels.EnumerateObject().Count();
        if (count is 0 or > LargestLabels) throw json.Wrong("id2label", labels, $"with 1 to {LargestLabels} labels");
        foreach (JsonProperty label in labels.EnumerateObject())
            if (!int.TryParse(label.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id >= count)
                throw CheckpointErrors.Corrupt(json.Path, $"field 'id2label' has the key {CheckpointErrors.Quote(label.Name)}, expected ids from 0 to {count - 1}");
        return count;
    }

    private static ImmutableSortedDictionary<string, JsonElement> ReadOtherFields(JsonFile json)
    {
        ImmutableSortedDictionary<string, JsonElement>.Builder others = ImmutableSortedDictionary.CreateBuilder<string, JsonElement>(StringComparer.Ordinal);
        foreach (JsonProperty field in json.Root.EnumerateObject())
            if (!OwnFields.Contains(field.Name)) others[field.Name] = field.Value;
        return others.ToImmutable();
    }
}
