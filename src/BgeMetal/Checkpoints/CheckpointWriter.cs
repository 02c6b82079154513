using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>What may be said about saving, beyond what is saved.</summary>
internal sealed record SaveOptions
{
    /// <summary>Replace the model that a directory already holds; other files in it stay.</summary>
    internal bool Overwrite { get; init; }

    /// <summary>Weights above this many bytes are spread over several files.</summary>
    internal long ShardBytes { get; init; } = 5_000_000_000;

    /// <summary>Texts that sentence-transformers puts before the inputs of a kind: "query", "document".</summary>
    internal IReadOnlyDictionary<string, string> Prompts { get; init; } = new Dictionary<string, string>();
}

/// <summary>
/// Saves a model in the layout that Hugging Face transformers and sentence-transformers load unchanged: config.json, model.safetensors (or shards and
/// their index), the tokenizer's files and, where a pooling is given, modules.json, 1_Pooling/config.json, 2_Normalize, sentence_bert_config.json and
/// config_sentence_transformers.json.
/// </summary>
internal static class CheckpointWriter
{
    /// <summary>
    /// Writes everything into a hidden directory first, flushes it to the disk, and only then puts it in place: a new directory appears in one rename;
    /// in an existing one the files are renamed one by one, config.json last. A failure before that leaves the target as it was.
    /// </summary>
    /// <param name="directory">Where the model goes: absent, empty, or (with <see cref="SaveOptions.Overwrite"/>) anything.</param>
    /// <param name="config">Written as config.json, with float32 as its torch_dtype.</param>
    /// <param name="tensors">State dict names, each once, in the order of the file.</param>
    /// <param name="pooling">Null for models that are no text embedders (a reranker): no sentence-transformers files are written then.</param>
    /// <param name="normalize">Whether sentence-transformers normalises the vector.</param>
    /// <param name="maxSeqLength">The most tokens of a text for sentence-transformers.</param>
    /// <param name="tokenizerFiles">Copied under their own names.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="BgeMetalException">The directory is not empty, or the disk is full or not writable.</exception>
    internal static void Save(string directory, ModelConfig config, IReadOnlyList<NamedTensor> tensors, PoolingMode? pooling, bool normalize, int maxSeqLength,
        IReadOnlyList<string> tokenizerFiles, SaveOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxSeqLength);
        options ??= new SaveOptions();
        CheckNames(tensors);
        try
        {
            using StagedDirectory staged = StagedDirectory.Create(directory, options.Overwrite);
            WriteWeights(staged, tensors, options.ShardBytes);
            foreach (string file in tokenizerFiles) staged.Copy(file);
            if (pooling is { } mode) SentenceTransformersWriter.Write(staged, config, mode, normalize, maxSeqLength, options.Prompts);
            staged.WriteText(StagedDirectory.LastFile, AsFloat32(config).ToJson());
            staged.Commit();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new BgeMetalException("cannot save the model", e.Message.ReplaceLineEndings(" "), directory, innerException: e);
        }
    }

    private static void CheckNames(IReadOnlyList<NamedTensor> tensors)
    {
        HashSet<string> names = new(StringComparer.Ordinal);
        foreach (NamedTensor tensor in tensors)
            if (tensor.Name == "__metadata__" || !names.Add(tensor.Name)) throw new ArgumentException($"the tensor name '{tensor.Name}' is taken", nameof(tensors));
    }

    private static ModelConfig AsFloat32(ModelConfig config)
    {
        string field = config.OtherFields.ContainsKey("dtype") ? "dtype" : "torch_dtype";
        using JsonDocument float32 = JsonDocument.Parse("\"float32\"");
        return config with { OtherFields = config.OtherFields.SetItem(field, float32.RootElement.Clone()) };
    }

    private static void WriteWeights(StagedDirectory staged, IReadOnlyList<NamedTensor> tensors, long shardBytes)
    {
        List<List<NamedTensor>> shards = Split(tensors, shardBytes);
        if (shards.Count == 1)
        {
            staged.Write(WeightFiles.Safetensors, stream => SafetensorsWriter.Write(stream, tensors));
            return;
        }
        SortedDictionary<string, string> places = new(StringComparer.Ordinal);
        for (int i = 0; i < shards.Count; i++)
        {
            string name = $"model-{i + 1:d5}-of-{shards.Count:d5}.safetensors";
            List<NamedTensor> shard = shards[i];
            staged.Write(name, stream => SafetensorsWriter.Write(stream, shard));
            foreach (NamedTensor tensor in shard) places.Add(tensor.Name, name);
        }
        staged.WriteJson(WeightFiles.SafetensorsIndex, writer =>
        {
            writer.WriteStartObject();
            writer.WriteStartObject("metadata");
            writer.WriteNumber("total_size", tensors.Sum(tensor => tensor.SizeBytes));
            writer.WriteEndObject();
            writer.WriteStartObject("weight_map");
            foreach ((string tensor, string file) in places) writer.WriteString(tensor, file);
            writer.WriteEndObject();
            writer.WriteEndObject();
        });
    }

    // In the given order, a new file whenever the next tensor would exceed the limit; a tensor that exceeds it alone gets a file of its own.
    private static List<List<NamedTensor>> Split(IReadOnlyList<NamedTensor> tensors, long shardBytes)
    {
        List<List<NamedTensor>> shards = [[]];
        long size = 0;
        foreach (NamedTensor tensor in tensors)
        {
            if (shards[^1].Count > 0 && size + tensor.SizeBytes > shardBytes)
            {
                shards.Add([]);
                size = 0;
            }
            shards[^1].Add(tensor);
            size += tensor.SizeBytes;
        }
        return shards;
    }
}
