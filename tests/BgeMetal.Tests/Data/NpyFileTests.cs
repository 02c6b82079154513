using System.Text;
using System.Text.Json;
using BgeMetal.Data;

namespace BgeMetal.Tests.Data;

public sealed class NpyFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    [Fact]
    public void The_bytes_are_those_of_numpy_save()
    {
        NpyFile.Write(At("a.npy"), [1, 2, 3, 4, 5, 6], 3);
        byte[] bytes = File.ReadAllBytes(At("a.npy"));
        // numpy 2: the dictionary, 21 - 1 characters of room for the first dimension, then spaces up to a multiple of 64, and a line feed.
        string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".PadRight(117) + "\n";
        Assert.Equal([0x93, .. "NUMPY"u8, 1, 0, 118, 0, .. Encoding.ASCII.GetBytes(header)], bytes[..128]);
        Assert.Equal(128 + 24, bytes.Length);
        Assert.Equal(2f, BitConverter.ToSingle(bytes, 132));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1023)]
    public void Rows_written_one_by_one_read_back_bit_equal(int rows)
    {
        const int columns = 7;
        float[] values = [.. Enumerable.Range(0, rows * columns).Select(i => MathF.Sin(i) * MathF.Pow(10, (i % 70) - 35))];
        if (rows > 0) (values[0], values[1], values[2]) = (float.NaN, float.NegativeInfinity, -0f);
        using (NpyWriter writer = NpyFile.Create(At("b.npy"), columns))
        {
            for (int r = 0; r < rows; r++) writer.WriteRows(values.AsSpan(r * columns, columns));
            Assert.False(File.Exists(At("b.npy")));
            writer.Commit();
        }

        NpyMatrix read = NpyFile.Read(At("b.npy"));
        Assert.Equal((rows, columns), (read.Rows, read.Columns));
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), read.Values.Select(BitConverter.SingleToInt32Bits));
    }

    [Fact]
    public void A_part_of_a_row_is_refused()
    {
        using NpyWriter writer = NpyFile.Create(At("c.npy"), 4);
        Assert.Throws<ArgumentException>(() => writer.WriteRows(new float[6]));
        Assert.Throws<ArgumentOutOfRangeException>(() => NpyFile.Create(At("c.npy"), 0));
    }

    [Fact]
    public void An_abandoned_writer_leaves_nothing()
    {
        using (NpyWriter writer = NpyFile.Create(At("d.npy"), 4)) writer.WriteRows(new float[8]);
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Theory]
    [InlineData("", 0, "does not start with the bytes of an .npy file")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 48, "the values are of type <f8, '<f4'")]
    [InlineData("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, "column-major")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24, "the shape is (6,), two dimensions")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3), }", 24, "the shape is (2, -3)")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 3), }", 24, "the shape is (9223372036854775807, 3)")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }", 24, "the shape is")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", 24, "'shape' does not end")]
    [InlineData("{'descr': '<f4', 'shape': (2, 3), }", 24, "no 'fortran_order'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 20, "make 93 bytes, the file has 89")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 28, "make 93 bytes, the file has 97")]
    public void A_bad_file_says_what_is_wrong_with_it(string header, int dataBytes, string message)
    {
        byte[] bytes = header.Length == 0 ? [.. "PK not numpy"u8] : [0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, 0, .. Encoding.ASCII.GetBytes(header), .. new byte[dataBytes]];
        File.WriteAllBytes(At("bad.npy"), bytes);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => NpyFile.Read(At("bad.npy")));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains("bad.npy", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_header_that_claims_gigabytes_costs_nothing()
    {
        File.WriteAllBytes(At("huge.npy"), [0x93, .. "NUMPY"u8, 2, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0]);
        Assert.Contains("too much for this file", Assert.Throws<BgeMetalException>(() => NpyFile.Read(At("huge.npy"))).Message, StringComparison.Ordinal);
        Assert.Contains("no such file", Assert.Throws<BgeMetalException>(() => NpyFile.Read(At("none.npy"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Json_rows_round_trip_every_float_in_the_fewest_digits()
    {
        float[] values = [0.1f, 1f / 3, -0f, float.MaxValue, float.Epsilon, 16777216f, 1.17549435E-38f];
        using MemoryStream stream = new();
        using (EmbeddingJsonWriter writer = new(stream))
        {
            writer.Write("中\"1", values);
            writer.Write(null, [1]);
        }

        string[] lines = Encoding.UTF8.GetString(stream.ToArray()).Split('\n');
        Assert.StartsWith("{\"id\":\"中\\\"1\",\"embedding\":[0.1,0.33333334,-0,", lines[0], StringComparison.Ordinal);
        Assert.Equal("{\"id\":null,\"embedding\":[1]}", lines[1]);
        Assert.Equal("", lines[2]);
        using JsonDocument row = JsonDocument.Parse(lines[0]);
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), row.RootElement.GetProperty("embedding").EnumerateArray().Select(v => BitConverter.SingleToInt32Bits(v.GetSingle())));
    }

    [Fact]
    public void Json_cannot_say_nan_and_the_row_is_named()
    {
        using EmbeddingJsonWriter writer = new(Stream.Null);
        writer.Write("a", [1]);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => writer.Write("b", [1, float.NaN]));
        Assert.Equal("cannot write the embedding: row 1 (id \"b\") holds NaN, which JSON cannot say", e.Message);
    }
}
