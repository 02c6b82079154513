using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// What sentence-transformers' files beside a model say: how to pool (1_Pooling/config.json), whether the vector is normalised (a Normalize module),
/// the longest text (sentence_bert_config.json) and the prompts (config_sentence_transformers.json). Modules that would change the vector in
/// another way are refused.
/// </summary>
internal sealed record PoolingConfig
{
    private static readonly string[] TransformerConfigs = ["sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json"];
    private const int LargestSequence = 1 << 20;

    /// <summary>Null where no file says it.</summary>
    internal PoolingMode? Mode { get; private init; }

    /// <summary>Null where there is no modules.json.</summary>
    internal bool? Normalize { get; private init; }

    /// <summary>Null where no file says it.</summary>
    internal int? MaxSequenceLength { get; private init; }

    /// <summary>Texts put before the inputs of a kind ("query", "document"); empty where there are none.</summary>
    internal IReadOnlyDictionary<string, string> Prompts { get; private init; } = new Dictionary<string, string>();

    /// <summary>1_Pooling/config.json or what modules.json names in its place; null where there is none.</summary>
    internal JsonFile? PoolingFile { get; private init; }

    /// <summary>The directory of the transformer itself: the model directory, or a folder in it in old layouts.</summary>
    internal required string TransformerDirectory { get; init; }

    /// <summary>Reads what there is in a model directory; a directory without such files gives nulls.</summary>
    /// <exception cref="BgeMetalException">A file is malformed, or asks for something that is not supported.</exception>
    internal static PoolingConfig Read(string directory)
    {
        PoolingConfig config = new() { TransformerDirectory = directory };
        string modules = Path.Combine(directory, "modules.json");
        string? poolingFile = null;
        if (File.Exists(modules)) config = ReadModules(JsonFile.ReadArray(modules), directory, out poolingFile);
        else if (File.Exists(Path.Combine(directory, "1_Pooling", "config.json"))) poolingFile = Path.Combine(directory, "1_Pooling", "config.json");
        if (poolingFile is not null)
        {
            JsonFile json = JsonFile.ReadObject(poolingFile);
            config = config with { PoolingFile = json, Mode = ReadMode(json) };
        }
        return config with { MaxSequenceLength = ReadMaxLength(config.TransformerDirectory), Prompts = ReadPrompts(directory) };
    }

    /// <summary>Checks what the pooling says about the model's width.</summary>
    /// <exception cref="BgeMetalException">It is meant for hidden states of another width.</exception>
    internal void CheckWidth(int hiddenSize)
    {
        if (PoolingFile?.Field("word_embedding_dimension") is { } width && !(width.ValueKind == JsonValueKind.Number && width.TryGetInt32(out int value) && value == hiddenSize))
            throw PoolingFile.Wrong("word_embedding_dimension", width, $"hidden_size {hiddenSize}");
    }

    private static PoolingConfig ReadModules(JsonFile json, string directory, out string? poolingFile)
    {
        string transformer = directory;
        bool normalize = false;
        poolingFile = null;
        foreach (JsonElement module in json.Root.EnumerateArray())
        {
            if (module.ValueKind != JsonValueKind.Object) throw json.Wrong("module", module, "an object with 'type' and 'path'");
            string type = Text(json, module, "type"), path = Text(json, module, "path");
            string folder = path.TrimEnd('/');
            if (folder.Length > 0 && !PlainName.Is(folder)) throw json.Wrong("path", module.GetProperty("path"), "the name of a folder beside modules.json");
            switch (type[(type.LastIndexOf('.') + 1)..])
            {
                case "Transformer":
                    transformer = Path.Combine(directory, folder);
                    break;
                case "Pooling" when poolingFile is null:
                    poolingFile = Path.Combine(directory, folder, "config.json");
                    break;
                case "Normalize":
                    normalize = true;
                    break;
                default:
                    throw json.Wrong("type", module.GetProperty("type"), "one Transformer, one Pooling and perhaps a Normalize module: no other can be computed here");
            }
        }
        if (poolingFile is null) throw CheckpointErrors.Corrupt(json.Path, "it names no Pooling module");
        return new PoolingConfig { TransformerDirectory = transformer, Normalize = normalize };
    }

    private static string Text(JsonFile json, JsonElement module, string field) =>
        module.TryGetProperty(field, out JsonElement value)
            ? value.ValueKind == JsonValueKind.String && JsonFile.TryText(value) is { } text ? text : throw json.Wrong(field, value, "a text")
            : throw json.Missing(field, "a text in every module");

    private static PoolingMode ReadMode(JsonFile json)
    {
        List<string> modes = [];
        foreach (JsonProperty field in json.Root.EnumerateObject())
            if (field.Name.StartsWith("pooling_mode_", StringComparison.Ordinal) && json.Flag(field.Name, false))
                modes.Add(field.Name["pooling_mode_".Length..]);
        if (modes.Count == 0 && json.Text("pooling_mode") is { } mode) modes.Add(mode);
        if (modes.Count != 1)
            throw CheckpointErrors.Corrupt(json.Path, modes.Count == 0 ? "no pooling mode is true"
                : $"{modes.Count} pooling modes are true ({string.Join(", ", modes.Select(m => CheckpointErrors.Quote(m)))}): joined vectors are not supported");
        PoolingMode pooling = modes[0] switch
        {
            "cls_token" or "cls" => PoolingMode.Cls,
            "mean_tokens" or "mean" => PoolingMode.Mean,
            string other => throw CheckpointErrors.Corrupt(json.Path, $"the pooling mode is {CheckpointErrors.Quote(other)}, expected 'cls_token' or 'mean_tokens'"),
        };
        if (pooling == PoolingMode.Mean && !json.Flag("include_prompt", true))
            throw json.Wrong("include_prompt", json.Root.GetProperty("include_prompt"), "true: a mean that leaves the prompt out is not supported");
        return pooling;
    }

    private static int? ReadMaxLength(string directory)
    {
        foreach (string name in TransformerConfigs)
        {
            string path = Path.Combine(directory, name);
            if (!File.Exists(path)) continue;
            JsonFile json = JsonFile.ReadObject(path);
            return json.Field("max_seq_length") is null ? null : json.Integer("max_seq_length", 1, LargestSequence);
        }
        return null;
    }

    private static Dictionary<string, string> ReadPrompts(string directory)
    {
        Dictionary<string, string> prompts = new(StringComparer.Ordinal);
        string path = Path.Combine(directory, "config_sentence_transformers.json");
        if (!File.Exists(path)) return prompts;
        JsonFile json = JsonFile.ReadObject(path);
        if (json.Field("prompts") is not { } field) return prompts;
        if (field.ValueKind != JsonValueKind.Object) throw json.Wrong("prompts", field, "an object from names to texts");
        foreach (JsonProperty prompt in field.EnumerateObject())
            prompts[prompt.Name] = prompt.Value.ValueKind == JsonValueKind.String && JsonFile.TryText(prompt.Value) is { } text ? text : throw json.Wrong(prompt.Name, prompt.Value, "a text");
        return prompts;
    }
}
