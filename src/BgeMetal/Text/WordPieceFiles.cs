using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using BgeMetal.Files;

namespace BgeMetal.Text;

/// <summary>Writes a WordPiece vocabulary as the files a BERT checkpoint has.</summary>
internal static class WordPieceFiles
{
    private static readonly JsonWriterOptions s_json = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json.</summary>
    /// <exception cref="BgeMetalException">A file cannot be written, a special token is missing, a token is there twice or would break a line.</exception>
    public static void Write(string directory, IReadOnlyList<string> vocabulary, BertOptions options, int modelMaxLength)
    {
        Dictionary<string, int> ids = new(StringComparer.Ordinal);
        foreach (string token in vocabulary)
        {
            if (token.Length == 0 || token.AsSpan().IndexOfAny('\r', '\n') >= 0)
                throw new BgeMetalException("cannot write the vocabulary", $"the token of id {ids.Count} is empty or breaks a line");
            if (!ids.TryAdd(token, ids.Count)) throw new BgeMetalException("cannot write the vocabulary", $"the token '{token}' is there twice");
        }
        foreach (string token in WordPieceTrainer.SpecialTokens)
            if (!ids.ContainsKey(token)) throw new BgeMetalException("cannot write the vocabulary", $"the special token '{token}' is missing");
        AtomicFile.WriteAllText(Path.Combine(directory, "vocab.txt"), new StringBuilder().AppendJoin('\n', vocabulary).Append('\n').ToString());
        WriteJson(directory, "tokenizer_config.json", json => WriteConfig(json, options, modelMaxLength));
        WriteJson(directory, "special_tokens_map.json", WriteSpecialTokens);
        WriteJson(directory, "tokenizer.json", json => WriteTokenizer(json, vocabulary, ids, options));
    }

    private static void WriteJson(string directory, string name, Action<Utf8JsonWriter> write)
    {
        ArrayBufferWriter<byte> bytes = new();
        using (Utf8JsonWriter json = new(bytes, s_json))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        bytes.Write("\n"u8);
        AtomicFile.WriteAllBytes(Path.Combine(directory, name), bytes.WrittenSpan);
    }

    private static void WriteSpecialTokens(Utf8JsonWriter json)
    {
        foreach (string token in WordPieceTrainer.SpecialTokens) json.WriteString($"{token.Trim('[', ']').ToLowerInvariant()}_token", token);
    }

    private static void WriteConfig(Utf8JsonWriter json, BertOptions options, int modelMaxLength)
    {
        json.WriteBoolean("clean_up_tokenization_spaces", true);
        json.WriteBoolean("do_lower_case", options.Lowercase);
        WriteSpecialTokens(json);
        json.WriteNumber("model_max_length", modelMaxLength);
        WriteAccents(json, options);
        json.WriteBoolean("tokenize_chinese_chars", options.HandleChineseChars);
        json.WriteString("tokenizer_class", "BertTokenizer");
    }

    private static void WriteAccents(Utf8JsonWriter json, BertOptions options)
    {
        if (options.StripAccents is { } strip) json.WriteBoolean("strip_accents", strip);
        else json.WriteNull("strip_accents");
    }

    private static void WriteTokenizer(Utf8JsonWriter json, IReadOnlyList<string> vocabulary, Dictionary<string, int> ids, BertOptions options)
    {
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        json.WriteStartArray("added_tokens");
        foreach (string token in WordPieceTrainer.SpecialTokens.OrderBy(token => ids[token])) WriteAddedToken(json, token, ids[token]);
        json.WriteEndArray();
        json.WriteStartObject("normalizer");
        json.WriteString("type", "BertNormalizer");
        json.WriteBoolean("clean_text", options.CleanText);
        json.WriteBoolean("handle_chinese_chars", options.HandleChineseChars);
        WriteAccents(json, options);
        json.WriteBoolean("lowercase", options.Lowercase);
        json.WriteEndObject();
        WriteRaw(json, "pre_tokenizer", """{"type":"BertPreTokenizer"}""");
        WriteTemplate(json, ids["[CLS]"], ids["[SEP]"]);
        WriteRaw(json, "decoder", """{"type":"WordPiece","prefix":"##","cleanup":true}""");
        json.WriteStartObject("model");
        json.WriteString("type", "WordPiece");
        json.WriteString("unk_token", "[UNK]");
        json.WriteString("continuing_subword_prefix", "##");
        json.WriteNumber("max_input_chars_per_word", 100);
        json.WriteStartObject("vocab");
        for (int id = 0; id < vocabulary.Count; id++) json.WriteNumber(vocabulary[id], id);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteAddedToken(Utf8JsonWriter json, string token, int id)
    {
        json.WriteStartObject();
        json.WriteNumber("id", id);
        json.WriteString("content", token);
        foreach (string flag in (string[])["single_word", "lstrip", "rstrip", "normalized"]) json.WriteBoolean(flag, false);
        json.WriteBoolean("special", true);
        json.WriteEndObject();
    }

    private static void WriteTemplate(Utf8JsonWriter json, int cls, int sep)
    {
        const string Single = """{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}""";
        const string Second = """{"Sequence":{"id":"B","type_id":1}},{"SpecialToken":{"id":"[SEP]","type_id":1}}""";
        json.WriteStartObject("post_processor");
        json.WriteString("type", "TemplateProcessing");
        WriteRaw(json, "single", $"[{Single}]");
        WriteRaw(json, "pair", $"[{Single},{Second}]");
        WriteRaw(json, "special_tokens", $$$"""{"[CLS]":{"id":"[CLS]","ids":[{{{cls}}}],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[{{{sep}}}],"tokens":["[SEP]"]}}""");
        json.WriteEndObject();
    }

    private static void WriteRaw(Utf8JsonWriter json, string name, string value)
    {
        json.WritePropertyName(name);
        json.WriteRawValue(value);
    }
}
