using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace BgeMetal.Retrieval;

/// <summary>
/// The layout of an index file, little-endian, all parts in this order and without gaps:
/// <list type="number">
/// <item>64 bytes header: magic "BGEFLAT1", version u32 = 1, dimension i32, metric i32 (1 = inner product), metadata bytes i32, rows i64, record bytes i64, file bytes i64,
/// CRC-32C of the metadata u32, CRC-32C of the header before this field u32, zeros.</item>
/// <item>vectors: rows x stride float32, stride = dimension rounded up to 16, so that every row starts at a multiple of 64 bytes; the padding is zero.</item>
/// <item>offsets: 2 * rows + 1 i64 into the records: id of row 0, text of row 0, id of row 1, ..., end.</item>
/// <item>records: UTF-8 id and text of each row, one after another.</item>
/// <item>metadata: a JSON object: "model", "query_instruction".</item>
/// </list>
/// </summary>
internal readonly record struct FlatIndexFormat(int Dimension, long Rows, long RecordBytes, int MetadataBytes)
{
    /// <summary>Bytes before the first vector.</summary>
    public const int HeaderBytes = 64;

    /// <summary>Wider vectors are taken for a damaged header.</summary>
    public const int MaxDimension = 1 << 20;

    private const int MaxMetadataBytes = 1 << 20;
    private const int Version = 1;
    private const int InnerProduct = 1;
    private const int ChecksumAt = 52;

    private static ReadOnlySpan<byte> Magic => "BGEFLAT1"u8;

    /// <summary>Floats from one row to the next.</summary>
    public int Stride => StrideOf(Dimension);

    /// <summary>Where the offset table starts.</summary>
    public long OffsetsAt => HeaderBytes + (Rows * Stride * sizeof(float));

    /// <summary>Where the ids and texts start.</summary>
    public long RecordsAt => OffsetsAt + (((2 * Rows) + 1) * sizeof(long));

    /// <summary>Where the metadata starts.</summary>
    public long MetadataAt => RecordsAt + RecordBytes;

    /// <summary>Bytes of the whole file.</summary>
    public long FileBytes => MetadataAt + MetadataBytes;

    /// <summary>Floats from one row of this dimension to the next.</summary>
    public static int StrideOf(int dimension) => (dimension + 15) & ~15;

    /// <summary>The header's bytes.</summary>
    public byte[] ToHeader(ReadOnlySpan<byte> metadata)
    {
        byte[] header = new byte[HeaderBytes];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(12), Dimension);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), InnerProduct);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(20), MetadataBytes);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), Rows);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(32), RecordBytes);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(40), FileBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(48), Checksum(metadata));
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(ChecksumAt), Checksum(header.AsSpan(0, ChecksumAt)));
        return header;
    }

    /// <summary>Reads and checks a header against the size of its file.</summary>
    /// <param name="header">The file's first bytes, fewer than <see cref="HeaderBytes"/> where the file is shorter.</param>
    /// <param name="fileBytes">The size of the file.</param>
    /// <param name="path">The file, for errors.</param>
    /// <exception cref="BgeMetalException">Not an index, another version, damaged, or truncated.</exception>
    public static FlatIndexFormat Parse(ReadOnlySpan<byte> header, long fileBytes, string path)
    {
        if (header.Length < HeaderBytes || !header.StartsWith(Magic)) throw Bad("it does not start with the bytes of a BgeMetal index", path);
        int version = BinaryPrimitives.ReadInt32LittleEndian(header[8..]);
        if (version != Version) throw Bad($"it has format version {version}, this program reads version {Version}", path);
        if (BinaryPrimitives.ReadUInt32LittleEndian(header[ChecksumAt..]) != Checksum(header[..ChecksumAt])) throw Bad("its header is damaged (checksum)", path);
        int metric = BinaryPrimitives.ReadInt32LittleEndian(header[16..]);
        if (metric != InnerProduct) throw Bad($"it has metric {metric}, this program knows metric {InnerProduct} (inner product)", path);
        FlatIndexFormat format = new(BinaryPrimitives.ReadInt32LittleEndian(header[12..]), BinaryPrimitives.ReadInt64LittleEndian(header[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(header[32..]), BinaryPrimitives.ReadInt32LittleEndian(header[20..]));
        long stored = BinaryPrimitives.ReadInt64LittleEndian(header[40..]);
        if (format.Dimension is < 1 or > MaxDimension || format.Rows is < 0 or > (1L << 40) || format.RecordBytes is < 0 or > (1L << 60) || format.MetadataBytes is < 0 or > MaxMetadataBytes
            || format.Rows > (1L << 60) / format.Stride || stored != format.FileBytes)
            throw Bad("its sizes do not fit together", path);
        if (stored != fileBytes) throw Bad($"it should have {stored} bytes, it has {fileBytes} (truncated, or still being copied?)", path);
        return format;
    }

    /// <summary>Reads the file's metadata.</summary>
    public byte[] ReadMetadata(Stream file)
    {
        byte[] metadata = new byte[MetadataBytes];
        file.Position = MetadataAt;
        file.ReadExactly(metadata);
        return metadata;
    }

    /// <summary>Reads the file's offsets and checks them.</summary>
    /// <exception cref="BgeMetalException">They are damaged.</exception>
    public void CheckOffsets(Stream file, string path)
    {
        long[] part = new long[8192];
        long total = (2 * Rows) + 1, previous = 0;
        file.Position = OffsetsAt;
        for (long done = 0; done < total; done += part.Length)
        {
            Span<long> offsets = part.AsSpan(0, (int)Math.Min(part.Length, total - done));
            file.ReadExactly(MemoryMarshal.AsBytes(offsets));
            CheckOffsets(offsets, done, ref previous, path);
        }
    }

    /// <summary>Checks that the offsets rise from 0 to the end of the records, and that each id and text fits a string.</summary>
    /// <exception cref="BgeMetalException">They do not.</exception>
    public void CheckOffsets(ReadOnlySpan<long> offsets, long firstIndex, ref long previous, string path)
    {
        for (int i = 0; i < offsets.Length; i++)
        {
            long length = offsets[i] - previous;
            if (offsets[i] < 0 || length is < 0 or > int.MaxValue / 2 || (firstIndex + i == 0 && offsets[i] != 0))
                throw Bad($"its table of texts is damaged at row {(firstIndex + i) / 2}", path);
            previous = offsets[i];
        }

        if (firstIndex + offsets.Length == (2 * Rows) + 1 && previous != RecordBytes)
            throw Bad($"its table of texts ends at {previous}, {RecordBytes} was expected", path);
    }

    /// <summary>The metadata as stored.</summary>
    public static byte[] ToMetadata(string model, string queryInstruction)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            json.WriteString("model"u8, model);
            json.WriteString("query_instruction"u8, queryInstruction);
            json.WriteEndObject();
        }

        return stream.ToArray();
    }

    /// <summary>Reads the metadata; the checksum is the header's.</summary>
    /// <exception cref="BgeMetalException">The metadata is damaged.</exception>
    public static (string Model, string QueryInstruction) ParseMetadata(ReadOnlySpan<byte> header, byte[] metadata, string path)
    {
        if (BinaryPrimitives.ReadUInt32LittleEndian(header[48..]) != Checksum(metadata)) throw Bad("its description is damaged (checksum)", path);
        try
        {
            using JsonDocument document = JsonDocument.Parse(metadata);
            return (document.RootElement.GetProperty("model").GetString() ?? "", document.RootElement.GetProperty("query_instruction").GetString() ?? "");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw Bad("its description is not the expected JSON", path);
        }
    }

    private static BgeMetalException Bad(string why, string path) => new("not a usable index", why, path);

    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes) crc = BitOperations.Crc32C(crc, b);
        return ~crc;
    }
}
