using System.Numerics.Tensors;
using BgeMetal.Benchmarks.Onnx;

namespace BgeMetal.Benchmarks.Engines;

/// <summary>How the peer cuts a list of texts into padded batches.</summary>
/// <param name="SortByLength">Longest first, so that texts of like length share a batch; else in arrival order.</param>
/// <param name="MaxTexts">Texts of a batch at most.</param>
/// <param name="MaxCells">Cells of a batch at most, padding included (one text is always allowed).</param>
internal sealed record PaddedBatching(bool SortByLength, int MaxTexts, int MaxCells)
{
    /// <summary>Sorted, filled up to 4096 cells: as good as padding gets.</summary>
    public static PaddedBatching Sorted { get; } = new(true, 256, 4096);

    /// <summary>32 texts as they come, the usual default of embedding servers and libraries.</summary>
    public static PaddedBatching Arrival { get; } = new(false, 32, int.MaxValue);

    /// <summary>The order in which the texts are computed.</summary>
    public int[] Order(int[][] tokenIds)
    {
        int[] order = [.. Enumerable.Range(0, tokenIds.Length)];
        if (SortByLength)
            Array.Sort(order, (a, b) => tokenIds[b].Length != tokenIds[a].Length ? tokenIds[b].Length.CompareTo(tokenIds[a].Length) : a.CompareTo(b));
        return order;
    }

    /// <summary>How many texts of the order, from <paramref name="start"/> on, make the next batch.</summary>
    public int BatchSize(int[][] tokenIds, int[] order, int start)
    {
        int size = 0, longest = 0;
        while (start + size < order.Length && size < MaxTexts)
        {
            longest = Math.Max(longest, tokenIds[order[start + size]].Length);
            if (size > 0 && (long)longest * (size + 1) > MaxCells)
                break;
            size++;
        }
        return size;
    }

    /// <summary>Computed cells over real tokens: 1 without any padding.</summary>
    public double PaddingFactor(int[][] tokenIds)
    {
        int[] order = Order(tokenIds);
        long cells = 0;
        for (int start = 0, size; start < order.Length; start += size)
        {
            size = BatchSize(tokenIds, order, start);
            cells += (long)size * order.Skip(start).Take(size).Max(text => tokenIds[text].Length);
        }
        return cells / (double)tokenIds.Sum(text => (long)text.Length);
    }
}

/// <summary>The peer: ONNX Runtime over a model that yields CLS rows, with the batching that a user of it would write.</summary>
internal sealed class OnnxEngine(string modelPath, OnnxForm form, int threads, bool spinning, PaddedBatching batching) : IEncoderEngine
{
    private readonly OnnxEncoder encoder = new(modelPath, threads, spinning);

    /// <summary>How the texts are cut into batches; may be changed between calls.</summary>
    public PaddedBatching Batching { get; set; } = batching;

    /// <inheritdoc/>
    public string Name { get; } = $"onnxruntime-{form.ToString().ToLowerInvariant()}{(spinning ? "" : "-nospin")}";

    /// <inheritdoc/>
    public string Version => OnnxEncoder.Version;

    /// <inheritdoc/>
    public void Embed(int[][] tokenIds, float[][] output)
    {
        int[] order = Batching.Order(tokenIds);
        for (int start = 0, size; start < order.Length; start += size)
        {
            size = Batching.BatchSize(tokenIds, order, start);
            int[] batch = order[start..(start + size)];
            encoder.Run(batch.Select(text => tokenIds[text]).ToArray(), null, (rows, _) =>
            {
                for (int i = 0; i < batch.Length; i++)
                {
                    float[] vector = output[batch[i]];
                    ReadOnlySpan<float> row = rows.Slice(i * vector.Length, vector.Length);
                    TensorPrimitives.Divide(row, Math.Max(TensorPrimitives.Norm(row), 1e-12f), vector);
                }
            });
        }
    }

    /// <inheritdoc/>
    public void Dispose() => encoder.Dispose();
}
