using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using Microsoft.Extensions.AI;

namespace BgeMetal.Tests.Models;

/// <summary>The embedder's promises on a small fresh model.</summary>
public sealed class EmbedderTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly string[] Texts =
    [
        "a cat sat on the mat", "", "the quick brown fox jumps over the lazy dog and runs away over the hills", "x",
        "猫在垫子上", string.Join(' ', Enumerable.Repeat("river", 200)), "one two three four five six seven eight nine ten",
    ];

    [Theory]
    [InlineData(PoolingMode.Cls)]
    [InlineData(PoolingMode.Mean)]
    public void A_vector_is_bit_equal_alone_in_any_batch_in_any_order_and_with_any_threads(PoolingMode pooling)
    {
        using Embedder one = Load(pooling, threads: 1), three = Load(pooling, threads: 3), small = Load(pooling, threads: 2, batchTokens: 8);
        float[][] expected = [.. Texts.Select(text => one.EmbedPassages([text])[0])];
        Assert.Equal(expected, one.EmbedPassages(Texts));
        Assert.Equal(expected, three.EmbedPassages(Texts));
        Assert.Equal(expected, small.EmbedPassages(Texts));
        Assert.Equal(expected, Texts.Select(text => three.EmbedPassages([text])[0]));
        Assert.Equal(expected.Reverse(), one.EmbedPassages([.. Texts.Reverse()]));
        string[] many = [.. Enumerable.Range(0, 40).Select(i => Texts[i % Texts.Length])];
        Assert.Equal(many.Select((_, i) => expected[i % Texts.Length]), three.EmbedPassages(many));
    }

    [Fact]
    public void Cls_vectors_equal_the_first_rows_of_the_full_last_layer()
    {
        using Embedder embedder = Load(PoolingMode.Cls, normalize: false);
        float[] expected = new float[embedder.Dimensions];
        ModelProbe.FirstHiddenState(model.Directory, embedder.Tokenizer.Encode(Texts[2]).InputIds, expected);
        Assert.Equal(expected, embedder.EmbedPassages([Texts[2]])[0]);
    }

    [Fact]
    public void Vectors_have_unit_length_unless_told_otherwise()
    {
        using Embedder unit = Load(PoolingMode.Cls), raw = Load(PoolingMode.Cls, normalize: false);
        Assert.All(unit.EmbedPassages(Texts), vector => Assert.Equal(1, vector.Sum(x => (double)x * x), 1e-5));
        Assert.Contains(raw.EmbedPassages(Texts), vector => Math.Abs(vector.Sum(x => (double)x * x) - 1) > 0.1);
    }

    [Fact]
    public void Fewer_dimensions_are_the_first_ones_renormalised()
    {
        using Embedder full = Load(PoolingMode.Mean), cut = Embedder.Load(model.Directory, new EmbedderOptions { Dimensions = 8 });
        float[] expected = full.EmbedPassages([Texts[0]])[0][..8];
        VectorMath.NormalizeInPlace(expected);
        float[] actual = cut.EmbedPassages([Texts[0]])[0];
        Assert.Equal(8, actual.Length);
        for (int i = 0; i < 8; i++) Assert.Equal(expected[i], actual[i], 1e-6);
    }

    [Fact]
    public void Queries_carry_the_instruction_and_passages_do_not()
    {
        using Embedder embedder = Embedder.Load(model.Directory, new EmbedderOptions { QueryInstruction = "river: " });
        Assert.Equal(embedder.EmbedPassages(["river: " + Texts[0]])[0], embedder.EmbedQueries([Texts[0]])[0]);
        Assert.NotEqual(embedder.EmbedPassages([Texts[0]])[0], embedder.EmbedQueries([Texts[0]])[0]);
    }

    [Fact]
    public void Ready_made_tokens_give_the_same_vector_as_their_text()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        float[] vector = new float[embedder.Dimensions];
        embedder.Embed([new TextInput { InputIds = embedder.Tokenizer.Encode(Texts[0]).InputIds, Source = "a", Line = 1 }], "ignored ", vector);
        Assert.Equal(embedder.EmbedPassages([Texts[0]])[0], vector);
    }

    [Fact]
    public void Tokens_outside_of_the_vocabulary_name_their_line()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        float[] vector = new float[embedder.Dimensions];
        BgeMetalException e = Assert.Throws<BgeMetalException>(() =>
            embedder.Embed([new TextInput { InputIds = [1, 10_000_000], Source = "rows.jsonl", Line = 7 }], null, vector));
        Assert.Contains("10000000", e.Message, StringComparison.Ordinal);
        Assert.Contains("(rows.jsonl:7)", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Too_many_tokens_and_no_tokens_name_their_line()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        float[] vector = new float[embedder.Dimensions];
        Assert.Contains("at most", Assert.Throws<BgeMetalException>(() =>
            embedder.Embed([new TextInput { InputIds = new int[100_000], Source = "r", Line = 2 }], null, vector)).Message, StringComparison.Ordinal);
        Assert.Contains("(r:3)", Assert.Throws<BgeMetalException>(() =>
            embedder.Embed([new TextInput { InputIds = [], Source = "r", Line = 3 }], null, vector)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_cancelled_call_stops()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => embedder.EmbedPassages(Texts, source.Token));
        Assert.NotEmpty(embedder.EmbedPassages(Texts, CancellationToken.None));
    }

    [Fact]
    public async Task Many_callers_at_once_get_their_own_vectors()
    {
        using Embedder embedder = Load(PoolingMode.Cls, threads: 2);
        float[][] expected = embedder.EmbedPassages(Texts);
        float[][][] all = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => embedder.EmbedPassages(Texts))));
        Assert.All(all, vectors => Assert.Equal(expected, vectors));
    }

    [Fact]
    public async Task It_is_an_embedding_generator()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        IEmbeddingGenerator<string, Embedding<float>> generator = embedder;
        GeneratedEmbeddings<Embedding<float>> vectors = await generator.GenerateAsync(Texts[..2]);
        Assert.Equal(embedder.EmbedPassages(Texts[..2]), vectors.Select(vector => vector.Vector.ToArray()));
        Assert.Equal(embedder.Dimensions, generator.GetService<EmbeddingGeneratorMetadata>()!.DefaultModelDimensions);
        Assert.Same(embedder, generator.GetService<Embedder>());
        GeneratedEmbeddings<Embedding<float>> cut = await generator.GenerateAsync(Texts[..1], new EmbeddingGenerationOptions { Dimensions = 8 });
        Assert.Equal(8, cut[0].Vector.Length);
    }

    [Fact]
    public void A_disposed_embedder_refuses()
    {
        Embedder embedder = Load(PoolingMode.Cls);
        embedder.Dispose();
        embedder.Dispose();
        Assert.Throws<ObjectDisposedException>(() => embedder.EmbedPassages(Texts));
    }

    [Theory]
    [InlineData("cuda:7", "auto", "cuda:7")]
    [InlineData("tpu", "auto", "tpu")]
    [InlineData("cpu", "bf16", "bf16")]
    [InlineData("cpu", "fp8", "fp8")]
    public void What_cannot_be_had_is_named(string device, string dtype, string named)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() =>
            Embedder.Load(model.Directory, new EmbedderOptions { Compute = new ComputeOptions { Device = device, DType = dtype } }));
        Assert.Contains(named, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void No_text_gives_no_vector()
    {
        using Embedder embedder = Load(PoolingMode.Cls);
        Assert.Empty(embedder.EmbedPassages([]));
    }

    private Embedder Load(PoolingMode pooling, int threads = 0, bool normalize = true, int batchTokens = 384) =>
        Embedder.Load(model.Directory, new EmbedderOptions
        {
            Pooling = pooling,
            Normalize = normalize,
            BatchTokens = batchTokens,
            Compute = new ComputeOptions { Threads = threads },
        });
}
