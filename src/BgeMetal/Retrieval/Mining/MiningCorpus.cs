using BgeMetal.Data;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval.Mining;

/// <summary>Vectors [texts, dimensions] of texts as passages (null instruction) or as queries.</summary>
internal delegate float[] EmbedTexts(IReadOnlyList<TextInput> texts, string? instruction);

/// <summary>
/// The texts to mine in, each once, in the order of first appearance, with their vectors: index files of at most <see cref="ShardRows"/> rows, mapped into
/// memory. Memory: about 40 bytes a text, and one chunk of texts and vectors while it is built.
/// </summary>
internal sealed class MiningCorpus : IDisposable
{
    /// <summary>Rows of an index file: what a killed run may have to embed again.</summary>
    public const int ShardRows = 1 << 14;

    private const int ChunkTexts = 2048;
    private readonly Dictionary<UInt128, long> _rows = [];
    private readonly List<FlatIndex> _shards = [];
    private IExactSearch? _search;

    private MiningCorpus(int dimensions) => Dimensions = dimensions;

    /// <summary>Components of a vector.</summary>
    public int Dimensions { get; }

    /// <summary>How many texts.</summary>
    public long Count => _rows.Count;

    /// <summary>Embeds the texts that the folder does not have yet, and opens all, to be searched on <paramref name="device"/> if that is a GPU.</summary>
    public static MiningCorpus Build(IEnumerable<TextInput> texts, MiningFolder folder, EmbedTexts embed, int dimensions, int threads, Device? device, CancellationToken ct)
    {
        MiningCorpus corpus = new(dimensions);
        try
        {
            foreach ((int number, TextInput[] shard) in corpus.Different(texts).Chunk(ShardRows).Index())
            {
                ct.ThrowIfCancellationRequested();
                string path = folder.Part("corpus", number, "idx");
                if (!File.Exists(path)) Write(path, shard, embed, dimensions, ct);
                corpus._shards.Add(FlatIndex.Open(path));
            }
            corpus._search = ExactSearch.Over([.. corpus._shards.Select(shard => shard.Vectors)], dimensions, threads, device);
            return corpus;
        }
        catch
        {
            corpus.Dispose();
            throw;
        }
    }

    /// <summary>The row of a text, or false if it is not in the corpus.</summary>
    public bool TryFind(MiningText text, out long row) => _rows.TryGetValue(text.Key(), out row);

    /// <summary>The text of a row.</summary>
    public MiningText TextAt(long row)
    {
        FlatIndex shard = _shards[(int)(row / ShardRows)];
        return new MiningText(shard.TextAt(row % ShardRows), shard.IdAt(row % ShardRows) == "i");
    }

    /// <summary>The vector of a row.</summary>
    public float[] VectorAt(long row)
    {
        float[] vector = new float[Dimensions];
        _shards[(int)(row / ShardRows)].CopyVector(row % ShardRows, vector);
        return vector;
    }

    /// <summary>The k best rows of each query by inner product, equal scores by row: queries [m, dimensions], results [m, k], -1 where there are fewer rows.</summary>
    public void Search(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct) => _search!.Run(queries, k, rows, scores, ct);

    /// <inheritdoc/>
    public void Dispose()
    {
        _search?.Dispose();
        _shards.ForEach(shard => shard.Dispose());
    }

    private IEnumerable<TextInput> Different(IEnumerable<TextInput> texts)
    {
        foreach (TextInput text in texts)
            if (_rows.TryAdd(MiningText.From(text.Text, text.InputIds).Key(), _rows.Count)) yield return text;
    }

    private static void Write(string path, TextInput[] texts, EmbedTexts embed, int dimensions, CancellationToken ct)
    {
        using FlatIndexWriter writer = FlatIndex.Create(path, dimensions);
        foreach (TextInput[] chunk in texts.Chunk(ChunkTexts))
        {
            ct.ThrowIfCancellationRequested();
            float[] vectors = embed(chunk, null);
            for (int i = 0; i < chunk.Length; i++)
            {
                MiningText text = MiningText.From(chunk[i].Text, chunk[i].InputIds);
                writer.Add(text.IsTokens ? "i" : "t", text.Content, vectors.AsSpan(i * dimensions, dimensions));
            }
        }
        writer.Commit();
    }
}
