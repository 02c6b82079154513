using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>Writes a <see cref="ModelConfig"/> as transformers does: sorted keys, two spaces, reals with a decimal point, a line feed at the end.</summary>
internal static class ModelConfigWriter
{
    /// <summary>How every JSON file of a saved model is written.</summary>
    internal static readonly JsonWriterOptions Options = new() { Indented = true, IndentSize = 2, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static string Write(ModelConfig config, double? classifierDropout)
    {
        SortedDictionary<string, Action<Utf8JsonWriter>> fields = new(StringComparer.Ordinal);
        foreach ((string name, JsonElement value) in config.OtherFields) fields[name] = value.WriteTo;
        if (!config.Architectures.IsDefaultOrEmpty) fields["architectures"] = w => JsonSerializeNames(w, config.Architectures);
        fields["attention_probs_dropout_prob"] = Real(config.AttentionDropoutProb);
        fields["classifier_dropout"] = classifierDropout is { } dropout ? Real(dropout) : w => w.WriteNullValue();
        fields["hidden_act"] = w => w.WriteStringValue(config.HiddenAct);
        fields["hidden_dropout_prob"] = Real(config.HiddenDropoutProb);
        fields["hidden_size"] = Integer(config.HiddenSize);
        fields["initializer_range"] = Real(config.InitializerRange);
        fields["intermediate_size"] = Integer(config.IntermediateSize);
        fields["layer_norm_eps"] = Real(config.LayerNormEps);
        fields["max_position_embeddings"] = Integer(config.MaxPositionEmbeddings);
        fields["model_type"] = w => w.WriteStringValue(config.ModelType);
        fields["num_attention_heads"] = Integer(config.NumAttentionHeads);
        fields["num_hidden_layers"] = Integer(config.NumHiddenLayers);
        fields["pad_token_id"] = Integer(config.PadTokenId);
        fields["position_embedding_type"] = w => w.WriteStringValue("absolute");
        fields["type_vocab_size"] = Integer(config.TypeVocabSize);
        fields["vocab_size"] = Integer(config.VocabSize);
        WriteLabels(config, fields);

        using MemoryStream text = new();
        using (Utf8JsonWriter writer = new(text, Options))
        {
            writer.WriteStartObject();
            foreach ((string name, Action<Utf8JsonWriter> value) in fields)
            {
                writer.WritePropertyName(name);
                value(writer);
            }
            writer.WriteEndObject();
        }
        return Encoding.UTF8.GetString(text.GetBuffer(), 0, (int)text.Length) + "\n";
    }

    // transformers takes two labels where nothing is said; label names that came with the file stay while their number is right.
    private static void WriteLabels(ModelConfig config, SortedDictionary<string, Action<Utf8JsonWriter>> fields)
    {
        fields.Remove("num_labels");
        int named = config.OtherFields.TryGetValue("id2label", out JsonElement labels) && labels.ValueKind == JsonValueKind.Object ? labels.EnumerateObject().Count() : 2;
        if (named == config.NumLabels) return;
        fields["id2label"] = w => WriteLabelTable(w, config.NumLabels, (writer, id) => writer.WriteString(Invariant(id), $"LABEL_{id}"));
        fields["label2id"] = w => WriteLabelTable(w, config.NumLabels, (writer, id) => writer.WriteNumber($"LABEL_{id}", id));
    }

    private static void WriteLabelTable(Utf8JsonWriter writer, int count, Action<Utf8JsonWriter, int> entry)
    {
        writer.WriteStartObject();
        for (int id = 0; id < count; id++) entry(writer, id);
        writer.WriteEndObject();
    }

    private static void JsonSerializeNames(Utf8JsonWriter writer, IEnumerable<string> names)
    {
        writer.WriteStartArray();
        foreach (string name in names) writer.WriteStringValue(name);
        writer.WriteEndArray();
    }

    private static Action<Utf8JsonWriter> Integer(int value) => writer => writer.WriteNumberValue(value);

    private static Action<Utf8JsonWriter> Real(double value) => writer =>
    {
        string text = value.ToString("R", CultureInfo.InvariantCulture);
        writer.WriteRawValue(text.AsSpan().IndexOfAny('.', 'E') < 0 ? text + ".0" : text);
    };

    private static string Invariant(int value) => value.ToString(CultureInfo.InvariantCulture);
}
