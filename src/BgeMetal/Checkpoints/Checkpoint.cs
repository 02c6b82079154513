namespace BgeMetal.Checkpoints;

/// <summary>
/// A model directory, opened: its configuration, its tensors under encoder names, and what sentence-transformers' files say about pooling. Opening
/// reads configurations and headers and checks every encoder tensor's shape; weights are read later, through <see cref="Tensors"/>.
/// </summary>
internal sealed class Checkpoint : IDisposable
{
    private readonly PoolingConfig _pooling;

    private Checkpoint(string directory, ModelConfig config, EncoderTensors tensors, PoolingConfig pooling)
    {
        Directory = directory;
        Config = config;
        Tensors = tensors;
        _pooling = pooling;
    }

    /// <summary>The directory that was opened.</summary>
    internal string Directory { get; }

    /// <summary>Where config.json, the weights and the tokenizer lie: <see cref="Directory"/>, or a folder in it in old sentence-transformers layouts.</summary>
    internal string TransformerDirectory => _pooling.TransformerDirectory;

    /// <summary>config.json.</summary>
    internal ModelConfig Config { get; }

    /// <summary>The tensors, under encoder names.</summary>
    internal EncoderTensors Tensors { get; }

    /// <summary>What 1_Pooling/config.json says; null where there is none, and the caller decides.</summary>
    internal PoolingMode? Pooling => _pooling.Mode;

    /// <summary>Whether modules.json has a Normalize module; null where there is no modules.json.</summary>
    internal bool? Normalize => _pooling.Normalize;

    /// <summary>max_seq_length of sentence_bert_config.json, but never more than the position embeddings allow; null where there is none.</summary>
    internal int? MaxSequenceLength => _pooling.MaxSequenceLength is { } length ? Math.Min(length, Config.LongestSequence) : null;

    /// <summary>The prompts of config_sentence_transformers.json by name, often "query" and "document" or "passage"; empty where there are none.</summary>
    internal IReadOnlyDictionary<string, string> Prompts => _pooling.Prompts;

    /// <summary>Opens a model directory.</summary>
    /// <param name="directory">A directory with config.json.</param>
    /// <param name="weights">A file of weights, or an index of shards, to take in place of the best one in the directory.</param>
    /// <exception cref="BgeMetalException">Something in it is missing, damaged or not supported; the message names the file.</exception>
    internal static Checkpoint Open(string directory, string? weights = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (!System.IO.Directory.Exists(directory)) throw CheckpointErrors.Corrupt(directory, "there is no such directory");
        PoolingConfig pooling = PoolingConfig.Read(directory);
        ModelConfig config = ModelConfig.Load(pooling.TransformerDirectory);
        pooling.CheckWidth(config.HiddenSize);
        TensorSource files = weights is null ? WeightFiles.Open(pooling.TransformerDirectory) : WeightFiles.OpenFile(weights);
        try
        {
            EncoderTensors tensors = new(files);
            EncoderShapes.Check(config, tensors);
            return new Checkpoint(directory, config, tensors, pooling);
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Tensors.Dispose();
}
