using System.Runtime.InteropServices;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;

namespace BgeMetal.Tests.Cuda;

/// <summary>Exact search on a GPU against the CPU's: the same rows and the same bits, however the corpus gets there.</summary>
[Collection("emulated gpu")]
public sealed unsafe class CudaSearchTests(TinyModel model) : IDisposable, IClassFixture<TinyModel>
{
    private readonly Device _gpu = DevicePair.Emulated(DType.BFloat16);
    private readonly List<nint> _memory = [];

    public void Dispose()
    {
        _gpu.Dispose();
        foreach (nint memory in _memory) NativeMemory.AlignedFree((void*)memory);
    }

    [Theory]
    [InlineData(3, 20, 9, false)]
    [InlineData(17, 20, 9, false)]
    [InlineData(2, 5, 40, true)]
    [InlineData(17, 7, 200, true)]
    public void Hits_are_the_cpus_bit_for_bit(int queries, int dimensions, int k, bool ties)
    {
        VectorTable[] corpus = [Table(61, dimensions, 1, ties), Table(1, dimensions, 2, ties), Table(0, dimensions, 3, ties), Table(130, dimensions, 4, ties)];
        using CudaSearch search = new(corpus, dimensions, 2, _gpu, pieceBytes: 50L * corpus[0].Stride * sizeof(float));
        AssertSame(corpus, search, Values(queries * dimensions, 5, ties), dimensions, k);
    }

    [Fact]
    public void What_stays_on_the_device_is_copied_once_and_the_rest_for_every_search()
    {
        const int Dimensions = 9, Stride = 16;
        VectorTable[] corpus = [Table(40, Dimensions, 1, ties: true), Table(35, Dimensions, 2, ties: true)];
        const long RowBytes = Stride * sizeof(float);
        // Pieces of 20, 20, 20 and 15 rows, two of which stay.
        using CudaSearch search = new(corpus, Dimensions, 1, _gpu, pieceBytes: 20 * RowBytes, keepBytes: 45 * RowBytes, mostQueries: 4);
        AssertSame(corpus, search, Values(3 * Dimensions, 3, ties: true), Dimensions, 11);
        Assert.Equal(75 * RowBytes, search.UploadedBytes);
        AssertSame(corpus, search, Values(4 * Dimensions, 4, ties: true), Dimensions, 75);
        Assert.Equal((75 + 35) * RowBytes, search.UploadedBytes);
        // Seven queries are two blocks.
        AssertSame(corpus, search, Values(7 * Dimensions, 5, ties: true), Dimensions, 5);
        Assert.Equal((75 + (3 * 35)) * RowBytes, search.UploadedBytes);
    }

    [Fact]
    public void More_hits_than_a_gpu_finds_are_found_on_the_cpu()
    {
        VectorTable[] corpus = [Table(1200, 4, 1, ties: true)];
        using CudaSearch search = new(corpus, 4, 1, _gpu);
        AssertSame(corpus, search, Values(2 * 4, 2, ties: true), 4, FlatIndex.MostHitsOnGpu + 1);
        Assert.Equal(0, search.UploadedBytes);
        AssertSame(corpus, search, Values(1 * 4, 2, ties: true), 4, FlatIndex.MostHitsOnGpu);
        Assert.Equal(1200 * 16 * sizeof(float), search.UploadedBytes);
    }

    [Fact]
    public void A_cancelled_search_leaves_a_searcher_that_works()
    {
        VectorTable[] corpus = [Table(60, 6, 1, ties: false)];
        using CudaSearch search = new(corpus, 6, 1, _gpu, pieceBytes: 20 * 16 * sizeof(float), keepBytes: 20 * 16 * sizeof(float));
        float[] queries = Values(2 * 6, 2, ties: false);
        Assert.Throws<OperationCanceledException>(() => search.Run(queries, 3, new long[6], new float[6], new CancellationToken(canceled: true)));
        AssertSame(corpus, search, queries, 6, 3);
        search.Dispose();
        Assert.Throws<ObjectDisposedException>(() => search.Run(queries, 3, new long[6], new float[6], CancellationToken.None));
    }

    [Fact]
    public void An_index_is_searched_where_the_embedder_computes()
    {
        float[] vectors = Values(50 * 32, 1, ties: false), queries = Values(3 * 32, 2, ties: false);
        using Embedder gpu = Embedder.Load(model.Directory, new EmbedderOptions { Compute = CudaEncoderTests.Emulated(DType.BFloat16) }), cpu = Embedder.Load(model.Directory);
        using FlatIndex index = FlatIndex.FromVectors(vectors, 32);
        SearchHit[][] expected = index.SearchBatch(queries, 7, TestContext.Current.CancellationToken);
        foreach (Embedder embedder in new[] { gpu, cpu })
        {
            index.SearchOn(embedder);
            Assert.Equal(expected, index.SearchBatch(queries, 7, TestContext.Current.CancellationToken));
        }
    }

    [CudaFact]
    public void On_a_gpu_hits_are_the_cpus_bit_for_bit()
    {
        const int Dimensions = 384;
        using Device gpu = new ComputeOptions { Device = "cuda", DType = "bf16" }.OpenDevice();
        foreach (bool ties in new[] { false, true })
        {
            VectorTable[] corpus = [Table(70_001, Dimensions, 1, ties), Table(13, Dimensions, 2, ties), Table(29_999, Dimensions, 3, ties)];
            foreach (long keep in new[] { 0L, 60L << 20, 1L << 30 })
            {
                using CudaSearch search = new(corpus, Dimensions, 0, gpu, pieceBytes: 25L << 20, keepBytes: keep);
                foreach ((int queries, int k) in new[] { (1, 10), (16, 1000), (700, 210), (2500, 40) })
                    AssertSame(corpus, search, Values(queries * Dimensions, queries, ties), Dimensions, k);
            }
        }
    }

    private static void AssertSame(VectorTable[] corpus, CudaSearch search, float[] queries, int dimensions, int k)
    {
        int count = queries.Length / dimensions * k;
        long[] expected = new long[count], rows = new long[count];
        float[] expectedScores = new float[count], scores = new float[count];
        new CpuSearch(corpus, dimensions, 2).Run(queries, k, expected, expectedScores, CancellationToken.None);
        search.Run(queries, k, rows, scores, CancellationToken.None);
        Assert.Equal(expected, rows);
        Tolerance.AssertBitEqual(scores, expectedScores);
    }

    /// <summary>Rows as index files have them, at multiples of 64 bytes; what lies between them is not a number.</summary>
    private VectorTable Table(int rows, int dimensions, int seed, bool ties)
    {
        int stride = FlatIndexFormat.StrideOf(dimensions);
        float* memory = (float*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, (long)rows * stride * sizeof(float)), 64);
        _memory.Add((nint)memory);
        new Span<float>(memory, rows * stride).Fill(float.NaN);
        float[] values = Values(rows * dimensions, seed, ties);
        for (int row = 0; row < rows; row++) values.AsSpan(row * dimensions, dimensions).CopyTo(new Span<float>(memory + (row * stride), dimensions));
        return new VectorTable((nint)memory, stride, rows);
    }

    private static float[] Values(int count, int seed, bool ties)
    {
        RandomData data = new(seed);
        return [.. (ties ? data.Integers(count, 2) : data.Uniform(count)).Select(value => (float)value)];
    }
}
