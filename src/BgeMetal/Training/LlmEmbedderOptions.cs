using BgeMetal.Checkpoints;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;

namespace BgeMetal.Training;

/// <summary>Training of an LLM-Embedder; names and defaults are those of FlagEmbedding's research/llm_embedder.</summary>
public sealed record LlmEmbedderOptions
{
    /// <summary>Files as <c>TASK:FILE</c>; without a task, the rows' own <c>task</c> field names it. A file named twice counts twice.</summary>
    public required IReadOnlyList<string> TrainData { get; init; }

    /// <summary>What holds for tasks that <see cref="Tasks"/> does not name.</summary>
    public LlmEmbedderTaskOptions Default { get; init; } = new();

    /// <summary>Tasks with options of their own.</summary>
    public IReadOnlyDictionary<string, LlmEmbedderTaskOptions> Tasks { get; init; } = new Dictionary<string, LlmEmbedderTaskOptions>();

    /// <summary>What is put before queries and keys of each task; null trains without instructions.</summary>
    public TaskInstructions? Instructions { get; init; } = TaskInstructions.Published;

    /// <summary>How rows of several files come together.</summary>
    public BatchComposition Composition { get; init; }

    /// <summary>Cosines are divided by this. Without normalisation nothing is.</summary>
    public double CosineTemperature { get; init; } = 0.01;

    /// <summary>Whether similarity is the cosine; the inner product otherwise.</summary>
    public bool Normalize { get; init; } = true;

    /// <summary>Keys of a query: one positive, the rest negatives.</summary>
    public int TrainGroupSize { get; init; } = 8;

    /// <summary>How token vectors become one vector; null follows the model's files, else CLS.</summary>
    public PoolingMode? Pooling { get; init; }

    /// <summary>Tokens a query is cut to.</summary>
    public int QueryMaxLength { get; init; } = 256;

    /// <summary>Tokens a key is cut to.</summary>
    public int KeyMaxLength { get; init; } = 256;

    /// <summary>Texts taken through the encoder at a time (gradient caching); 0 takes the whole batch at once. Does not change the result.</summary>
    public int SubBatchSize { get; init; }

    /// <summary>Whether the position table keeps its values.</summary>
    public bool FixPositionEmbedding { get; init; }

    /// <summary>Whether malformed rows are counted and left out instead of ending the run.</summary>
    public bool SkipInvalid { get; init; }

    /// <summary>The options of a task.</summary>
    public LlmEmbedderTaskOptions For(string task) => Tasks.TryGetValue(task, out LlmEmbedderTaskOptions? own) ? own : Default;
}
