using System.Globalization;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Kernels;
using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// What a step will take, computed before the first one. Parameters: weights, gradients, two moments, and the weights packed for both
/// directions. Activations: see <see cref="ActivationFloats"/>. With CLS pooling the last layer keeps keys and values only.
/// </summary>
/// <param name="ParameterBytes">Everything that lasts.</param>
/// <param name="ActivationBytes">Everything that a step takes and gives back.</param>
/// <param name="Tokens">Tokens that are in the encoder at one time.</param>
internal sealed record TrainingMemory(long ParameterBytes, long ActivationBytes, long Tokens)
{
    /// <summary>The batches whose largest one stands for all.</summary>
    public const int SampledBatches = 4;

    /// <summary>The options that make a step smaller.</summary>
    public string Advice { get; init; } = "--sub-batch-size, --per-device-train-batch-size or --passage-max-len";

    /// <summary>Both together.</summary>
    public long Bytes => ParameterBytes + ActivationBytes;

    /// <summary>The memory of the largest of some batches.</summary>
    public static TrainingMemory Of(TrainableModel model, FinetuneOptions task, PoolingMode pooling, IEnumerable<ContrastiveBatch> batches)
    {
        long tokens = 0, activations = 0;
        foreach (ContrastiveBatch batch in batches)
        {
            int texts = batch.Queries.Count + batch.Passages.Count;
            bool cached = task.SubBatchSize > 0 && Math.Max(batch.Queries.Count, batch.Passages.Count) > task.SubBatchSize;
            long now = cached ? Math.Max(LargestChunk(batch.Queries, task.SubBatchSize), LargestChunk(batch.Passages, task.SubBatchSize)) : batch.Tokens;
            long vectors = 4L * texts * new ActivationFloats(model.Shape).Row;
            long scores = batch.TeacherScores is null ? 0 : 3L * batch.Queries.Count * batch.Passages.Count;
            tokens = Math.Max(tokens, now);
            activations = Math.Max(activations, model.Device.DType.SizeBytes * (now * FloatsPerToken(model.Shape, pooling) + vectors) + sizeof(float) * scores);
        }
        return new TrainingMemory(model.Parameters.SizeBytes, activations, tokens);
    }

    /// <summary>The memory of the largest of some batches of a cross-encoder's pairs.</summary>
    public static TrainingMemory OfPairs(TrainableModel model, IEnumerable<RerankingBatch> batches)
    {
        long tokens = batches.Max(batch => batch.Pairs.Sum(pair => (long)pair.Length));
        return new TrainingMemory(model.Parameters.SizeBytes, sizeof(float) * tokens * FloatsPerToken(model.Shape, PoolingMode.Cls), tokens)
        {
            Advice = "--per-device-train-batch-size, --train-group-size or --max-len",
        };
    }

    /// <summary>The memory of the largest of some batches of RetroMAE, or of DupMAE with <paramref name="bagOfWords"/>.</summary>
    public static TrainingMemory OfRetroMae(TrainableModel model, IEnumerable<RetroMaeBatch> batches, bool bagOfWords)
    {
        long tokens = 0, activations = 0;
        foreach (RetroMaeBatch batch in batches)
        {
            tokens = Math.Max(tokens, batch.Tokens);
            activations = Math.Max(activations, sizeof(float) * RetroMaeFloats(model.Shape, batch, bagOfWords));
        }
        return new TrainingMemory(model.Parameters.SizeBytes, activations, tokens) { Advice = "--per-device-train-batch-size or --max-seq-length" };
    }

    /// <summary>Refuses a run that cannot fit.</summary>
    /// <exception cref="BgeMetalException">More than <paramref name="available"/> bytes are needed.</exception>
    public void Require(long available)
    {
        if (Bytes <= available) return;
        string activations = ActivationBytes == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", activations of {Tokens:N0} tokens {Gibibytes(ActivationBytes)}");
        string advice = ActivationBytes == 0 ? "take a smaller model" : "take a smaller " + Advice;
        throw new BgeMetalException("not enough memory", $"training takes about {Gibibytes(Bytes)} (weights, gradients and moments {Gibibytes(ParameterBytes)}{activations}), "
            + $"this process may use {Gibibytes(available)}; {advice}");
    }

    /// <summary>Refuses a model whose parameters alone cannot fit, before they are allocated.</summary>
    public static void RequireParameters(Device device, long bytes) => new TrainingMemory(bytes, 0, 0).Require(device.AvailableBytes());

    private static long FloatsPerToken(EncoderShape shape, PoolingMode pooling)
    {
        ActivationFloats floats = new(shape);
        long gradients = floats.QueryKeyValue + floats.RowGradients;
        return pooling == PoolingMode.Cls
            ? floats.Embeddings + ((shape.NumLayers - 1) * floats.Layer) + floats.KeyValue + (shape.NumLayers > 1 ? gradients + floats.KeyValue : floats.QueryKeyValue)
            : floats.Embeddings + (shape.NumLayers * floats.Layer) + gradients;
    }

    // The encoder's last layer keeps the rest of its rows for those that are read only; the decoder has two streams of embeddings and one layer; each head has three rows.
    private static long RetroMaeFloats(EncoderShape shape, RetroMaeBatch batch, bool bagOfWords)
    {
        ActivationFloats floats = new(shape);
        long tokens = batch.Tokens, labelled = batch.EncoderRows.Length, read = bagOfWords ? tokens : labelled + batch.Original.Count, decoded = batch.DecoderRows.Length;
        long encoder = (tokens * (floats.Embeddings + ((shape.NumLayers - 1) * floats.Layer) + floats.KeyValue))
            + (read * (floats.Query + floats.Row + floats.Context + floats.AfterAttention)) + (labelled * 4 * floats.Row)
            + (bagOfWords ? (tokens * 3 * floats.Row) + (2L * batch.Original.Count * shape.VocabSize) : 0);
        long decoder = (tokens * ((2 * floats.Embeddings) + floats.Row + floats.KeyValue + floats.Query + floats.Context)) + (decoded * ((5 * floats.Row) + floats.AfterAttention));
        long gradients = (tokens * (floats.QueryKeyValue + floats.KeyValue + floats.Query + floats.Row + floats.RowGradients))
            + (bagOfWords ? 0 : read * (floats.Query + floats.RowGradients)) + (decoded * floats.RowGradients);
        return encoder + decoder + gradients + (2L * batch.Visible.Length);
    }

    private static long LargestChunk(IReadOnlyList<TokenSequence> texts, int chunk) => texts.Chunk(chunk).Max(part => part.Sum(text => (long)text.Length));

    private static string Gibibytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.##} GiB");
}
