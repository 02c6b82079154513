using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;
using BgeMetal.Training;

namespace BgeMetal.Tests.Cuda;

/// <summary>Whole models on the emulated GPU against the CPU.</summary>
[Collection("emulated gpu")]
public sealed class CudaEncoderTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly TextInput[] Inputs = [Ids(2, 7, 9, 3), Ids(2), Ids(2, 11, 3, 8, 30, 31, 3)];

    [Theory]
    [InlineData(DType.Float32, PoolingMode.Cls)]
    [InlineData(DType.BFloat16, PoolingMode.Mean)]
    [InlineData(DType.Float16, PoolingMode.Cls)]
    public void Vectors_are_the_cpus(DType dtype, PoolingMode pooling)
    {
        float[] expected = Embed(new ComputeOptions(), pooling), actual = Embed(Emulated(dtype), pooling);
        int dimensions = expected.Length / Inputs.Length;
        for (int i = 0; i < Inputs.Length; i++)
        {
            double cosine = Cosine(expected.AsSpan(i * dimensions, dimensions), actual.AsSpan(i * dimensions, dimensions));
            Assert.True(cosine >= (dtype == DType.BFloat16 ? 0.9995 : 0.99999), $"text {i}: cosine {cosine}");
        }
        if (dtype == DType.Float32) Tolerance.AssertNorm(actual, [.. expected.Select(value => (double)value)], 1e-5, "vectors in fp32");
    }

    [Fact]
    public void Scores_of_a_reranker_are_the_cpus()
    {
        string directory = Path.Combine(model.Root, "reranker");
        using (TrainableModel fresh = RerankerTrainer.Load(model.Directory, new ComputeOptions(), seed: 3))
            fresh.Save(directory, new SavedForm(null, false, 64, "") { Layout = RerankerTrainer.Layout(fresh.Config) }, overwrite: true);
        float[] expected = Score(directory, new ComputeOptions()), actual = Score(directory, Emulated(DType.Float32));
        Tolerance.AssertClose(expected, actual, 1e-5, "scores in fp32");
    }

    [Fact]
    public void An_embedder_says_where_it_computes()
    {
        using Embedder gpu = Embedder.Load(model.Directory, new EmbedderOptions { Compute = Emulated(DType.BFloat16) }), cpu = Embedder.Load(model.Directory);
        string name = CudaPresence.IsAvailable ? ComputeOptions.Gpus[0] : "emulated";
        Assert.Equal(new ComputeDevice("cuda:0", "bf16", name, ""), gpu.Device);
        Assert.Equal(new ComputeDevice("cpu", "fp32", "", ""), cpu.Device);
        Assert.Equal($"cuda:0 ({name}, bf16)", gpu.Device.ToString());
    }

    internal static ComputeOptions Emulated(DType dtype) => new() { Threads = 2, Opener = () => DevicePair.Emulated(dtype) };

    private static TextInput Ids(params int[] ids) => new() { InputIds = ids, Source = "test" };

    private float[] Embed(ComputeOptions compute, PoolingMode pooling)
    {
        using Embedder embedder = Embedder.Load(model.Directory, new EmbedderOptions { Compute = compute, Pooling = pooling, BatchTokens = 8 });
        float[] vectors = new float[Inputs.Length * embedder.Dimensions];
        embedder.Embed(Inputs, null, vectors);
        return vectors;
    }

    private static float[] Score(string directory, ComputeOptions compute)
    {
        using Reranker reranker = Reranker.Load(directory, new RerankerOptions { Compute = compute });
        return reranker.ScoreTokens(Inputs).Scores;
    }

    internal static double Cosine(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double dot = 0, aa = 0, bb = 0;
        for (int i = 0; i < a.Length; i++)
        {
            dot += (double)a[i] * b[i];
            aa += (double)a[i] * a[i];
            bb += (double)b[i] * b[i];
        }
        return dot / Math.Sqrt(aa * bb);
    }
}
