using System.Buffers.Binary;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Retrieval;

public sealed class FlatIndexTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    private static float[] Random(int count, int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)random.Next(-8, 9))];
    }

    private string Build(float[] vectors, int dimension, string name = "a.index")
    {
        using FlatIndexWriter writer = FlatIndex.Create(At(name), dimension, "BAAI/bge-small-zh-v1.5", "为这个句子：");
        for (int r = 0; r < vectors.Length / dimension; r++) writer.Add($"doc-{r}", r % 3 == 0 ? "" : $"text № {r}", vectors.AsSpan(r * dimension, dimension));
        writer.Commit();
        return At(name);
    }

    /// <summary>The definition: all inner products, sorted by score and then by row.</summary>
    private static (long Row, float Score)[] Expected(float[] vectors, int dimension, ReadOnlySpan<float> query, int k)
    {
        float[] scores = new float[vectors.Length / dimension];
        for (int r = 0; r < scores.Length; r++)
            for (int c = 0; c < dimension; c++) scores[r] += vectors[(r * dimension) + c] * query[c];
        return [.. scores.Select((s, r) => ((long)r, s)).OrderByDescending(x => x.s).ThenBy(x => x.Item1).Take(k)];
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(5, 7, 10)]
    [InlineData(255, 16, 3)]
    [InlineData(257, 17, 257)]
    [InlineData(1023, 31, 100)]
    public void The_hits_on_disk_and_in_memory_are_those_of_the_definition(int rows, int dimension, int k)
    {
        float[] vectors = Random(rows * dimension, rows), queries = Random(5 * dimension, 99);
        using FlatIndex onDisk = FlatIndex.Open(Build(vectors, dimension));
        using FlatIndex inMemory = FlatIndex.FromVectors(vectors, dimension);
        SearchHit[][] hits = onDisk.SearchBatch(queries, k), same = inMemory.SearchBatch(queries, k);
        for (int q = 0; q < 5; q++)
        {
            (long Row, float Score)[] expected = Expected(vectors, dimension, queries.AsSpan(q * dimension, dimension), k);
            Assert.Equal(expected, hits[q].Select(h => (h.Row, h.Score)));
            Assert.Equal(expected, same[q].Select(h => (h.Row, h.Score)));
            Assert.All(hits[q], h => Assert.Equal(($"doc-{h.Row}", h.Row % 3 == 0 ? "" : $"text № {h.Row}"), (h.Id, h.Text)));
            Assert.All(same[q], h => Assert.Equal(($"{h.Row}", ""), (h.Id, h.Text)));
            Assert.Equal(hits[q], onDisk.Search(queries.AsSpan(q * dimension, dimension), k, TestContext.Current.CancellationToken));
        }
    }

    [Fact]
    public void What_was_said_when_building_is_kept()
    {
        float[] vectors = Random(6 * 5, 1);
        using FlatIndex index = FlatIndex.Open(Build(vectors, 5));
        Assert.Equal((5, 6L, "BAAI/bge-small-zh-v1.5", "为这个句子："), (index.Dimension, index.Count, index.Model, index.QueryInstruction));
        float[] row = new float[5];
        index.CopyVector(4, row);
        Assert.Equal(vectors[20..25], row);
        Assert.Throws<ArgumentOutOfRangeException>(() => index.TextAt(6));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.IdAt(-1));
        Assert.Single(Directory.GetFiles(_folder));
    }

    [Fact]
    public void An_index_without_rows_has_no_hits()
    {
        using FlatIndex index = FlatIndex.Open(Build([], 4));
        Assert.Empty(index.Search(new float[4], 10, TestContext.Current.CancellationToken));
        using FlatIndex memory = FlatIndex.FromVectors([], 4);
        Assert.Empty(memory.Search(new float[4], 10, TestContext.Current.CancellationToken));
        long[] rows = new long[3];
        float[] scores = new float[3];
        index.SearchRows(new float[4], 3, rows, scores, TestContext.Current.CancellationToken);
        Assert.All(rows, r => Assert.Equal(-1, r));
        Assert.All(scores, s => Assert.Equal(float.NegativeInfinity, s));
    }

    [Fact]
    public void One_thread_and_several_find_the_same_bits()
    {
        const int dimension = 48, rows = 70_000;
        Random random = new(4);
        float[] vectors = [.. Enumerable.Range(0, rows * dimension).Select(_ => random.NextSingle() - 0.5f)], queries = vectors[..(40 * dimension)];
        using FlatIndex one = FlatIndex.FromVectors(vectors, dimension, threads: 1);
        using FlatIndex three = FlatIndex.FromVectors(vectors, dimension, threads: 3);
        SearchHit[][] expected = one.SearchBatch(queries, 20), hits = three.SearchBatch(queries, 20);
        for (int q = 0; q < 40; q++)
        {
            Assert.Equal(expected[q], hits[q]);
            Assert.Equal(expected[q], three.Search(queries.AsSpan(q * dimension, dimension), 20, TestContext.Current.CancellationToken));
            Assert.All(hits[q], h => Assert.Equal(Enumerable.Range(0, dimension).Sum(c => (double)vectors[(h.Row * dimension) + c] * queries[(q * dimension) + c]), h.Score, 1e-5));
        }
    }

    [Fact]
    public void Nan_scores_come_last_and_equal_scores_by_row()
    {
        using FlatIndex index = FlatIndex.FromVectors([1, float.NaN, 2, 1, 2], 1);
        Assert.Equal([2L, 4, 0, 3, 1], index.Search([1f], 5, TestContext.Current.CancellationToken).Select(h => h.Row));
        Assert.Equal([2L, 4], index.Search([1f], 2, TestContext.Current.CancellationToken).Select(h => h.Row));
    }

    [Fact]
    public void Rows_without_id_get_their_number()
    {
        using (FlatIndexWriter writer = FlatIndex.Create(At("n.index"), 1))
        {
            writer.Add(null, null, [1]);
            writer.Add(null, "t", [2]);
            Assert.Equal(2, writer.Count);
            writer.Commit();
        }

        using FlatIndex index = FlatIndex.Open(At("n.index"));
        Assert.Equal([new SearchHit("1", 2, "t", 1), new SearchHit("0", 1, "", 0)], index.Search([1f], 5, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void Wrong_lengths_are_refused()
    {
        using FlatIndex index = FlatIndex.FromVectors(new float[8], 4);
        Assert.Throws<ArgumentException>(() => index.Search(new float[3], 1));
        Assert.Throws<ArgumentException>(() => index.SearchBatch(new float[6], 1));
        Assert.Throws<ArgumentException>(() => index.Search([new float[4], new float[5]], 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.Search(new float[4], 0));
        Assert.Throws<ArgumentException>(() => FlatIndex.FromVectors(new float[7], 4));
        Assert.Throws<ArgumentException>(() => FlatIndex.FromVectors(new float[8], 4, ["only one"]));
        using FlatIndexWriter writer = FlatIndex.Create(At("w.index"), 4);
        Assert.Throws<ArgumentException>(() => writer.Add("a", "", new float[3]));
    }

    [Fact]
    public void A_vector_that_is_not_finite_is_refused_with_its_row()
    {
        using FlatIndexWriter writer = FlatIndex.Create(At("w.index"), 2);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => writer.Add("x", "", [1, float.PositiveInfinity]));
        Assert.Equal("cannot index the vector: row 0 (id \"x\") holds ∞", e.Message.Replace("Infinity", "∞", StringComparison.Ordinal));
    }

    [Fact]
    public void An_abandoned_writer_leaves_the_old_index_and_no_other_file()
    {
        string path = Build(Random(8, 3), 4);
        byte[] before = File.ReadAllBytes(path);
        using (FlatIndexWriter writer = FlatIndex.Create(path, 9)) writer.Add("a", "b", new float[9]);
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Single(Directory.GetFiles(_folder));
    }

    [Fact]
    public void An_open_index_outlives_its_replacement()
    {
        using FlatIndex old = FlatIndex.Open(Build([1, 0, 0, 1], 2));
        Build([3, 3], 2);
        Assert.Equal(2, old.Search([1f, 0f], 5, TestContext.Current.CancellationToken).Length);
    }

    [Theory]
    [InlineData("empty", "does not start with the bytes of a BgeMetal index")]
    [InlineData("magic", "does not start with the bytes of a BgeMetal index")]
    [InlineData("version", "it has format version 7")]
    [InlineData("header", "its header is damaged (checksum)")]
    [InlineData("truncated", "truncated, or still being copied?")]
    [InlineData("longer", "truncated, or still being copied?")]
    [InlineData("rows", "its sizes do not fit together")]
    [InlineData("negative", "its sizes do not fit together")]
    [InlineData("dimension", "its sizes do not fit together")]
    [InlineData("offset", "its table of texts is damaged at row 1")]
    [InlineData("first-offset", "its table of texts is damaged at row 0")]
    [InlineData("last-offset", "its table of texts ends at 3")]
    [InlineData("metadata", "its description is damaged (checksum)")]
    public void A_damaged_index_says_what_is_wrong(string damage, string message)
    {
        string path = Build(Random(4 * 20, 5), 20);
        byte[] bytes = File.ReadAllBytes(path);
        const int offsets = 64 + (4 * 32 * 4);
        bytes = Damage(bytes, damage, offsets);
        File.WriteAllBytes(path, bytes);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => FlatIndex.Open(path));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains(path, e.Message, StringComparison.Ordinal);
    }

    private static byte[] Damage(byte[] bytes, string damage, int offsets)
    {
        switch (damage)
        {
            case "empty": return [];
            case "magic": bytes[0] ^= 1; return bytes;
            case "version": bytes[8] = 7; return bytes;
            case "header": bytes[33] ^= 1; return bytes;
            case "truncated": return bytes[..^1];
            case "longer": return [.. bytes, 0];
            case "rows": BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(24), long.MaxValue / 2); return Sealed(bytes);
            case "negative": BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(32), -1); return Sealed(bytes);
            case "dimension": BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), 0); return Sealed(bytes);
            case "offset": BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(offsets + 16), 1L << 40); return bytes;
            case "first-offset": BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(offsets), 1); return bytes;
            case "last-offset":
                for (int i = 1; i <= 8; i++) BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(offsets + (8 * i)), 3);
                return bytes;
            case "metadata": bytes[^3] ^= 1; return bytes;
            default: throw new ArgumentException(damage);
        }
    }

    /// <summary>Puts the right checksum back, so that the checks behind it are reached.</summary>
    private static byte[] Sealed(byte[] bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes.AsSpan(0, 52)) crc = System.Numerics.BitOperations.Crc32C(crc, b);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(52), ~crc);
        return bytes;
    }

    [Fact]
    public void A_missing_index_and_a_directory_are_named()
    {
        Assert.Equal($"cannot open the index: there is no such file ({At("no")})", Assert.Throws<BgeMetalException>(() => FlatIndex.Open(At("no"))).Message);
        Assert.Contains("is a directory", Assert.Throws<BgeMetalException>(() => FlatIndex.Open(_folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_cancelled_search_ends()
    {
        using FlatIndex index = FlatIndex.FromVectors(new float[4], 4);
        Assert.Throws<OperationCanceledException>(() => index.Search(new float[4], 1, new CancellationToken(canceled: true)));
    }

    [Fact]
    public void After_dispose_everything_throws()
    {
        FlatIndex index = FlatIndex.Open(Build(Random(8, 3), 4));
        index.Dispose();
        index.Dispose();
        Assert.Throws<ObjectDisposedException>(() => index.Search(new float[4], 1));
        Assert.Throws<ObjectDisposedException>(() => index.TextAt(0));
        Assert.Throws<ObjectDisposedException>(() => index.CopyVector(0, new float[4]));
    }

    [Fact]
    public void Dispose_during_searches_ends_them_normally_or_as_disposed_and_never_crashes()
    {
        float[] vectors = Random(3000 * 32, 11), query = Random(32, 12);
        string path = Build(vectors, 32);
        (long, float)[] expected = Expected(vectors, 32, query, 10);
        for (int round = 0; round < 20; round++)
        {
            FlatIndex index = FlatIndex.Open(path);
            int finished = 0;
            Thread[] threads = [.. Enumerable.Range(0, 4).Select(_ => new Thread(() =>
            {
                try
                {
                    while (true)
                    {
                        SearchHit[] hits = index.Search(query, 10);
                        if (hits.Select(h => (h.Row, h.Score)).SequenceEqual(expected)) Interlocked.Increment(ref finished);
                        else Interlocked.Exchange(ref finished, int.MinValue / 2);
                    }
                }
                catch (ObjectDisposedException) { }
            }))];
            foreach (Thread thread in threads) thread.Start();
            SpinWait.SpinUntil(() => Volatile.Read(ref finished) != 0, TimeSpan.FromSeconds(10));
            index.Dispose();
            foreach (Thread thread in threads) thread.Join();
            Assert.True(finished > 0);
        }
    }
}
