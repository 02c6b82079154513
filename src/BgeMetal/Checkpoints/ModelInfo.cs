namespace BgeMetal.Checkpoints;

/// <summary>One file of a model directory.</summary>
/// <param name="Name">Its path below the directory, with forward slashes.</param>
/// <param name="SizeBytes">Its size.</param>
public readonly record struct ModelFile(string Name, long SizeBytes);

/// <summary>
/// What is known of a model without loading its weights: configuration, parameters, files, pooling, and how much memory it will take. Only headers are read.
/// </summary>
public sealed class ModelInfo
{
    private const int FloatBytes = 4;

    private ModelInfo(Checkpoint checkpoint)
    {
        Directory = checkpoint.Directory;
        Config = checkpoint.Config;
        Pooling = checkpoint.Pooling;
        Normalize = checkpoint.Normalize;
        MaxSequenceLength = checkpoint.MaxSequenceLength ?? Math.Min(512, Config.LongestSequence);
        TensorEntry[] floats = [.. checkpoint.Tensors.Entries.Where(entry => entry.IsFloat)];
        Tensors = floats.Length;
        StoredParameters = floats.Sum(entry => entry.Elements);
        StorageTypes = floats.GroupBy(entry => entry.StorageType, StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.Sum(entry => entry.Elements), StringComparer.Ordinal);
        HasClassifier = floats.Any(entry => entry.Name.StartsWith("classifier.", StringComparison.Ordinal));
        HasLanguageModelHead = floats.Any(entry => entry.Name.StartsWith("cls.predictions.", StringComparison.Ordinal) || entry.Name.StartsWith("lm_head.", StringComparison.Ordinal));
        Files = [.. System.IO.Directory.EnumerateFiles(Directory, "*", SearchOption.AllDirectories)
            .Select(path => new ModelFile(Path.GetRelativePath(Directory, path).Replace('\\', '/'), Size(path)))
            .Where(file => file.Name.Count(c => c == '/') <= 1 && !file.Name.StartsWith('.')).OrderBy(file => file.Name, StringComparer.Ordinal)];
    }

    /// <summary>The model's directory.</summary>
    public string Directory { get; }

    /// <summary>config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>Every file in the directory and in the folders directly below it.</summary>
    public IReadOnlyList<ModelFile> Files { get; }

    /// <summary>What the model's own files say about pooling; null where they say nothing.</summary>
    public PoolingMode? Pooling { get; }

    /// <summary>Whether the model's own files ask for vectors of length 1; null where they say nothing.</summary>
    public bool? Normalize { get; }

    /// <summary>The most tokens a text is cut to by default, special tokens included.</summary>
    public int MaxSequenceLength { get; }

    /// <summary>How many tensors of numbers the checkpoint has.</summary>
    public int Tensors { get; }

    /// <summary>The elements of all of them, heads included.</summary>
    public long StoredParameters { get; }

    /// <summary>Elements by storage type: F32, F16, BF16, ...</summary>
    public IReadOnlyDictionary<string, long> StorageTypes { get; }

    /// <summary>Whether there is a classification head, as a reranker has.</summary>
    public bool HasClassifier { get; }

    /// <summary>Whether there is a masked-language head.</summary>
    public bool HasLanguageModelHead { get; }

    /// <summary>
    /// Parameters of the encoder, P = (V + M + S) D + 2 D + L (4 D (D + 1) + 2 D I + I + D + 4 D), with vocabulary V, positions M, segment types S,
    /// hidden size D, layers L and intermediate size I.
    /// </summary>
    public long EncoderParameters
    {
        get
        {
            long d = Config.HiddenSize, i = Config.IntermediateSize;
            long layer = (4 * d * (d + 1)) + (2 * d * i) + i + d + (4 * d);
            return ((Config.VocabSize + (long)Config.MaxPositionEmbeddings + Config.TypeVocabSize) * d) + (2 * d) + (Config.NumHiddenLayers * layer);
        }
    }

    /// <summary>Opens a model directory; its weights are not read.</summary>
    /// <exception cref="BgeMetalException">Something in it is missing, damaged or not supported; the message names the file.</exception>
    public static ModelInfo Load(string directory)
    {
        using Checkpoint checkpoint = Checkpoint.Open(directory);
        return new ModelInfo(checkpoint);
    }

    /// <summary>
    /// Bytes that embedding takes, about P + threads T (9 D + I) elements: the weights once, and for each thread one chunk's activations in a layer
    /// (input, query, key, value, context, its projection, their normalised sum, the feed-forward block's inner and outer values, the output).
    /// </summary>
    /// <param name="batchTokens">T, the tokens that a thread takes through the model at a time.</param>
    /// <param name="threads">How many threads compute.</param>
    /// <param name="elementBytes">Of a weight and an activation: 4 in fp32, 2 in bf16 and fp16.</param>
    public long EmbeddingBytes(int batchTokens, int threads, int elementBytes = FloatBytes) =>
        elementBytes * (EncoderParameters + ((long)threads * Math.Max(batchTokens, MaxSequenceLength) * ((9L * Config.HiddenSize) + Config.IntermediateSize)));

    /// <summary>
    /// Bytes that a training step takes, about 16 P and T (L (8 D + 2 I + H) + 2 D) elements: weights, gradients and AdamW's two moments in fp32 (below fp32 the rounded weights too), and what each
    /// layer keeps for the backward pass (query, key, value, context, both sums before LayerNorm and both after, the feed-forward block's inner values
    /// before and after GELU, one log-sum-exp for each of H heads).
    /// </summary>
    /// <param name="batchTokens">T, the tokens of queries and passages in one step.</param>
    /// <param name="elementBytes">Of an activation: 4 in fp32, 2 in bf16 and fp16.</param>
    public long TrainingBytes(int batchTokens, int elementBytes = FloatBytes)
    {
        long kept = (Config.NumHiddenLayers * ((8L * Config.HiddenSize) + (2L * Config.IntermediateSize) + Config.NumAttentionHeads)) + (2L * Config.HiddenSize);
        return (((4 * FloatBytes) + (elementBytes < FloatBytes ? elementBytes : 0)) * EncoderParameters) + (elementBytes * batchTokens * kept);
    }

    // A snapshot's file is a link; its size is that of what it stands for.
    private static long Size(string path) => File.ResolveLinkTarget(path, returnFinalTarget: true) is FileInfo { Exists: true } target ? target.Length : new FileInfo(path).Length;
}
