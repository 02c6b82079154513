using System.Globalization;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Kernels;
using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// What a contrastive step will take, computed before the first one. Parameters: weights, gradients, two moments, and the weights packed for both
/// directions. Activations, in floats a token, with d = D + 16, i = I + 16 (rows are padded) and q the row of query, key and value: 3 d for the embeddings;
/// q + 9 d + 2 i + H + 4 for each layer; q + 5 d + i for the gradients on their way down, which layers share. With CLS pooling the last layer keeps
/// keys and values only.
/// </summary>
/// <param name="ParameterBytes">Everything that lasts.</param>
/// <param name="ActivationBytes">Everything that a step takes and gives back.</param>
/// <param name="Tokens">Tokens that are in the encoder at one time.</param>
internal sealed record TrainingMemory(long ParameterBytes, long ActivationBytes, long Tokens)
{
    private const int Padding = 16;

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
            long vectors = 4L * texts * (model.Shape.HiddenSize + Padding);
            long scores = batch.TeacherScores is null ? 0 : 3L * batch.Queries.Count * batch.Passages.Count;
            tokens = Math.Max(tokens, now);
            activations = Math.Max(activations, model.Device.DType.SizeBytes * (now * FloatsPerToken(model.Shape, pooling) + vectors) + sizeof(float) * scores);
        }
        return new TrainingMemory(model.Parameters.SizeBytes, activations, tokens);
    }

    /// <summary>Refuses a run that cannot fit.</summary>
    /// <exception cref="BgeMetalException">More than <paramref name="available"/> bytes are needed.</exception>
    public void Require(long available)
    {
        if (Bytes <= available) return;
        string activations = ActivationBytes == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", activations of {Tokens:N0} tokens {Gibibytes(ActivationBytes)}");
        string advice = ActivationBytes == 0 ? "take a smaller model" : "take a smaller --sub-batch-size, --per-device-train-batch-size or --passage-max-len";
        throw new BgeMetalException("not enough memory", $"training takes about {Gibibytes(Bytes)} (weights, gradients and moments {Gibibytes(ParameterBytes)}{activations}), "
            + $"this process may use {Gibibytes(available)}; {advice}");
    }

    /// <summary>Refuses a model whose parameters alone cannot fit, before they are allocated.</summary>
    public static void RequireParameters(Device device, long bytes) => new TrainingMemory(bytes, 0, 0).Require(device.AvailableBytes());

    private static long FloatsPerToken(EncoderShape shape, PoolingMode pooling)
    {
        long d = shape.HiddenSize + Padding, i = shape.IntermediateSize + Padding;
        long column = LinearWeight.Stride(new LinearSpec([""], shape.HiddenSize, shape.HiddenSize)), q = (3 * column) + Padding;
        int dropouts = shape.HiddenDropout > 0 ? 1 : 0;
        long layer = q + ((7 + (2 * dropouts)) * d) + (2 * i) + shape.NumHeads + 4;
        long embeddings = 5 + ((2 + dropouts) * d), gradients = q + ((4 + dropouts) * d) + i;
        return pooling == PoolingMode.Cls
            ? embeddings + ((shape.NumLayers - 1) * layer) + (2 * column) + Padding + (shape.NumLayers > 1 ? gradients + (2 * column) : 3 * column)
            : embeddings + (shape.NumLayers * layer) + gradients;
    }

    private static long LargestChunk(IReadOnlyList<TokenSequence> texts, int chunk) => texts.Chunk(chunk).Max(part => part.Sum(text => (long)text.Length));

    private static string Gibibytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.##} GiB");
}
