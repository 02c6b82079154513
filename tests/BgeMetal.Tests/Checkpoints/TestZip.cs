using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Writes zip files, good ones and such as no archiver would write: every number of the directory can be replaced by a lie.</summary>
internal sealed class TestZip
{
    private readonly List<byte> _file = [], _directory = [];
    private int _count;

    /// <summary>Use zip64 fields for sizes, offsets and the end record.</summary>
    internal bool Zip64 { get; init; }

    /// <summary>Adds a member; the optional arguments replace the true values in the directory.</summary>
    internal TestZip Add(string name, ReadOnlySpan<byte> data, bool deflate = false, uint? crc = null, long? size = null, long? compressedSize = null,
        long? offset = null, int? method = null, int flags = 0)
    {
        byte[] stored = deflate ? Deflate(data) : data.ToArray(), nameBytes = Encoding.UTF8.GetBytes(name);
        long local = _file.Count;
        byte[] header = new byte[30];
        Put32(header, 0, 0x04034b50);
        Put16(header, 26, nameBytes.Length);
        Put16(header, 28, 4);
        _file.AddRange([.. header, .. nameBytes, 0x46, 0x42, 0, 0, .. stored]);

        byte[] extra = new byte[Zip64 ? 28 : 0];
        byte[] record = new byte[46];
        Put32(record, 0, 0x02014b50);
        Put16(record, 8, flags);
        Put16(record, 10, method ?? (deflate ? 8 : 0));
        Put32(record, 16, crc ?? Crc32.Append(0, data));
        Put16(record, 28, nameBytes.Length);
        Put16(record, 30, extra.Length);
        PutSizes(record, extra, compressedSize ?? stored.Length, size ?? data.Length, offset ?? local);
        _directory.AddRange([.. record, .. nameBytes, .. extra]);
        _count++;
        return this;
    }

    /// <summary>The whole file; the optional arguments replace the true values in the end record.</summary>
    internal byte[] ToArray(int? count = null, long? directorySize = null, long? directoryStart = null, int disk = 0, long? locator = null)
    {
        long start = _file.Count;
        byte[] end = new byte[22];
        Put32(end, 0, 0x06054b50);
        Put16(end, 4, disk);
        Put16(end, 8, Zip64 ? 0xffff : count ?? _count);
        Put16(end, 10, Zip64 ? 0xffff : count ?? _count);
        Put32(end, 12, Zip64 ? 0xffffffff : (uint)(directorySize ?? _directory.Count));
        Put32(end, 16, Zip64 ? 0xffffffff : (uint)(directoryStart ?? start));
        byte[] end64 = [];
        if (Zip64)
        {
            end64 = new byte[56 + 20];
            Put32(end64, 0, 0x06064b50);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(32), count ?? _count);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(40), directorySize ?? _directory.Count);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(48), directoryStart ?? start);
            Put32(end64, 56, 0x07064b50);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(64), locator ?? (start + _directory.Count));
        }
        return [.. _file, .. _directory, .. end64, .. end];
    }

    internal static byte[] Deflate(ReadOnlySpan<byte> data)
    {
        using MemoryStream deflated = new();
        using (DeflateStream stream = new(deflated, CompressionLevel.Optimal, leaveOpen: true)) stream.Write(data);
        return deflated.ToArray();
    }

    private void PutSizes(byte[] record, byte[] extra, long compressed, long size, long offset)
    {
        Put32(record, 20, Zip64 ? 0xffffffff : (uint)compressed);
        Put32(record, 24, Zip64 ? 0xffffffff : (uint)size);
        Put32(record, 42, Zip64 ? 0xffffffff : (uint)offset);
        if (!Zip64) return;
        Put16(extra, 0, 1);
        Put16(extra, 2, 24);
        BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(4), size);
        BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(12), compressed);
        BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(20), offset);
    }

    private static void Put16(byte[] bytes, int at, int value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(at), (ushort)value);

    private static void Put32(byte[] bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);
}
