using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>Writes the files that make a transformers model a sentence-transformers model; only keys that every release of it understands.</summary>
internal static class SentenceTransformersWriter
{
    internal static void Write(StagedDirectory staged, ModelConfig config, PoolingMode pooling, bool normalize, int maxSeqLength, IReadOnlyDictionary<string, string> prompts)
    {
        staged.WriteJson("modules.json", writer =>
        {
            writer.WriteStartArray();
            WriteModule(writer, 0, "", "Transformer");
            WriteModule(writer, 1, "1_Pooling", "Pooling");
            if (normalize) WriteModule(writer, 2, "2_Normalize", "Normalize");
            writer.WriteEndArray();
        });
        staged.WriteJson("1_Pooling/config.json", writer =>
        {
            writer.WriteStartObject();
            writer.WriteNumber("word_embedding_dimension", config.HiddenSize);
            writer.WriteBoolean("pooling_mode_cls_token", pooling == PoolingMode.Cls);
            writer.WriteBoolean("pooling_mode_mean_tokens", pooling == PoolingMode.Mean);
            writer.WriteBoolean("pooling_mode_max_tokens", false);
            writer.WriteBoolean("pooling_mode_mean_sqrt_len_tokens", false);
            writer.WriteEndObject();
        });
        if (normalize) staged.MakeFolder("2_Normalize");
        staged.WriteJson("sentence_bert_config.json", writer =>
        {
            writer.WriteStartObject();
            writer.WriteNumber("max_seq_length", maxSeqLength);
            writer.WriteBoolean("do_lower_case", false);
            writer.WriteEndObject();
        });
        staged.WriteJson("config_sentence_transformers.json", writer =>
        {
            writer.WriteStartObject();
            writer.WriteStartObject("prompts");
            foreach ((string name, string text) in prompts.OrderBy(prompt => prompt.Key, StringComparer.Ordinal)) writer.WriteString(name, text);
            writer.WriteEndObject();
            writer.WriteNull("default_prompt_name");
            writer.WriteEndObject();
        });
    }

    private static void WriteModule(Utf8JsonWriter writer, int index, string path, string type)
    {
        writer.WriteStartObject();
        writer.WriteNumber("idx", index);
        writer.WriteString("name", $"{index}");
        writer.WriteString("path", path);
        writer.WriteString("type", $"sentence_transformers.models.{type}");
        writer.WriteEndObject();
    }
}
