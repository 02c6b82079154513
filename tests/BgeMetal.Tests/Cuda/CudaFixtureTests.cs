using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;

namespace BgeMetal.Tests.Cuda;

/// <summary>The encoder fixtures, PyTorch's numbers, by the CUDA kernels: short texts on the emulated GPU, everything where there is a real one.</summary>
[Collection("emulated gpu")]
public sealed class CudaFixtureTests
{
    private const int ShortTokens = 5;

    [Theory]
    [InlineData(DType.Float32, PoolingMode.Mean)]
    [InlineData(DType.BFloat16, PoolingMode.Cls)]
    public void Short_texts_on_the_emulated_gpu(DType dtype, PoolingMode pooling) =>
        AssertReference(SharedFolder.FixtureOrSkip("encoder", "bert_h64"), CudaEncoderTests.Emulated(dtype), dtype, pooling, ShortTokens);

    [CudaFact]
    public void Every_text_on_a_gpu()
    {
        SharedFolder.FixtureOrSkip("encoder", "bert_h64");
        foreach (string folder in Directory.GetDirectories(Path.Combine(SharedFolder.Fixtures, "encoder")))
            foreach ((string name, DType dtype) in new[] { ("fp32", DType.Float32), ("bf16", DType.BFloat16), ("fp16", DType.Float16) })
                foreach (PoolingMode pooling in new[] { PoolingMode.Cls, PoolingMode.Mean })
                    AssertReference(folder, new ComputeOptions { Device = "cuda", DType = name }, dtype, pooling, int.MaxValue);
    }

    /// <summary>All texts of all batches in one call: a text's vector does not depend on its batch but for rounding.</summary>
    private static void AssertReference(string folder, ComputeOptions compute, DType dtype, PoolingMode pooling, int mostTokens)
    {
        using FixtureModel model = new(folder, "model.safetensors");
        SafetensorsReference expected = new(Path.Combine(folder, "expected.safetensors"));
        (int Batch, int Text, TokenSequence Sequence)[] texts = [.. FixtureBatch.Read(folder).SelectMany((batch, b) => batch.Sequences.Select((sequence, i) => (Batch: b, Text: i, Sequence: sequence)))
            .Where(text => text.Sequence.Length <= mostTokens)];
        using Embedder embedder = Embedder.Load(model.Directory, new EmbedderOptions { Pooling = pooling, Compute = compute });
        int dimensions = embedder.Dimensions;
        float[] vectors = new float[texts.Length * dimensions];
        embedder.EmbedSequences([.. texts.Select(text => text.Sequence)], vectors);
        foreach ((int row, (int batch, int text, TokenSequence _)) in texts.Index())
        {
            float[] reference = expected[$"batch{batch}.{(pooling == PoolingMode.Cls ? "cls" : "mean")}_normalized"];
            AssertVector(reference.AsSpan(text * dimensions, dimensions), vectors.AsSpan(row * dimensions, dimensions), dtype, $"{Path.GetFileName(folder)} {dtype} batch {batch} text {text}");
        }
    }

    private static void AssertVector(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, DType dtype, string what)
    {
        if (dtype == DType.Float32) Tolerance.AssertClose(expected, actual, 1e-4, what);
        double cosine = CudaEncoderTests.Cosine(expected, actual);
        Assert.True(cosine >= 0.9995, $"{what}: cosine {cosine}");
    }
}
