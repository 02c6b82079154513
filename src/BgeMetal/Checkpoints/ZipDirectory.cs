using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>One member of a zip file; its data lies at <paramref name="Start"/> in the file.</summary>
internal readonly record struct ZipMember(string Name, long Start, long CompressedSize, long Size, bool Deflated, uint Crc);

/// <summary>
/// Reads the central directory of a zip file, zip64 included (APPNOTE 6.3), and finds where each member's data lies, so that stored members can be
/// read in place. Refused: encryption, several disks, methods other than stored and deflate, names that appear twice, members that overlap or reach
/// beyond the file, and deflated members that promise far more than the file could hold.
/// </summary>
internal sealed class ZipDirectory
{
    private const int EndBytes = 22, LocatorBytes = 20, End64Bytes = 56, CentralBytes = 46, LocalBytes = 30, LargestComment = 65535;
    private const uint EndMagic = 0x06054b50, LocatorMagic = 0x07064b50, End64Magic = 0x06064b50, CentralMagic = 0x02014b50, LocalMagic = 0x04034b50;
    private const int LargestDirectory = 64 << 20;

    /// <summary>Deflated members may promise at most this many times the file's length together, and 16 MiB more: real weights hardly shrink.</summary>
    private const long LargestInflation = 16, FreeInflation = 16 << 20;

    private readonly SafeFileHandle _handle;
    private readonly string _file;
    private readonly long _length;

    private ZipDirectory(SafeFileHandle handle, string file)
    {
        _handle = handle;
        _file = file;
        _length = RandomAccess.GetLength(handle);
    }

    /// <summary>All members by name.</summary>
    /// <exception cref="BgeMetalException">The file is no zip file, is damaged, or is one of the refused kinds.</exception>
    /// <exception cref="IOException">The disk fails.</exception>
    internal static Dictionary<string, ZipMember> Read(SafeFileHandle handle, string file)
    {
        ZipDirectory zip = new(handle, file);
        (long start, long size, long count) = zip.FindDirectory();
        Dictionary<string, ZipMember> members = zip.ReadMembers(start, size, count);
        zip.CheckSizes(members.Values, start);
        return members;
    }

    private (long Start, long Size, long Count) FindDirectory()
    {
        int tailLength = (int)Math.Min(_length, EndBytes + LargestComment);
        long tailStart = _length - tailLength;
        byte[] tail = ReadAt(tailStart, tailLength);
        for (int i = tailLength - EndBytes; i >= 0; i--)
        {
            ReadOnlySpan<byte> end = tail.AsSpan(i);
            if (U32(end) != EndMagic || U16(end[20..]) != end.Length - EndBytes) continue;
            long count = U16(end[10..]), size = U32(end[12..]), start = U32(end[16..]);
            if (U16(end[4..]) is not (0 or 0xffff) || U16(end[6..]) is not (0 or 0xffff)) throw Bad(tailStart + i, "the zip file is spread over several disks");
            if (count == 0xffff || size == 0xffffffff || start == 0xffffffff) (start, size, count) = ReadEnd64(tailStart + i);
            if (start < 0 || size < 0 || start > tailStart + i || size > tailStart + i - start) throw Bad(tailStart + i, $"the zip directory of {size} bytes at {start} lies outside of the file");
            if (size > LargestDirectory) throw Bad(tailStart + i, $"the zip directory has {size} bytes, more than the {LargestDirectory} allowed");
            if (count < 0 || count > size / CentralBytes) throw Bad(tailStart + i, $"{count} members do not fit into a zip directory of {size} bytes");
            return (start, size, count);
        }
        throw CheckpointErrors.Corrupt(_file, "the zip file has no end record: it is truncated");
    }

    private (long Start, long Size, long Count) ReadEnd64(long endStart)
    {
        if (endStart < LocatorBytes) throw Bad(endStart, "the zip64 locator is missing");
        byte[] locator = ReadAt(endStart - LocatorBytes, LocatorBytes);
        long at = I64(locator.AsSpan(8));
        if (U32(locator) != LocatorMagic || at < 0 || at > endStart - LocatorBytes - End64Bytes) throw Bad(endStart - LocatorBytes, "the zip64 locator is missing or points outside of the file");
        byte[] end = ReadAt(at, End64Bytes);
        if (U32(end) != End64Magic) throw Bad(at, "the zip64 end record is missing");
        return (I64(end.AsSpan(48)), I64(end.AsSpan(40)), I64(end.AsSpan(32)));
    }

    private Dictionary<string, ZipMember> ReadMembers(long start, long size, long count)
    {
        Dictionary<string, ZipMember> members = new(StringComparer.Ordinal);
        byte[] directory = ReadAt(start, (int)size);
        int at = 0;
        for (long i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> record = directory.AsSpan(at);
            if (record.Length < CentralBytes || U32(record) != CentralMagic) throw Bad(start + at, $"member {i} of the zip directory is malformed");
            int nameLength = U16(record[28..]), extraLength = U16(record[30..]), total = CentralBytes + nameLength + extraLength + U16(record[32..]);
            if (record.Length < total) throw Bad(start + at, $"member {i} of the zip directory is cut off");
            string name = Encoding.UTF8.GetString(record.Slice(CentralBytes, nameLength));
            ZipMember member = ReadMember(record, name, record.Slice(CentralBytes + nameLength, extraLength), start);
            if (!members.TryAdd(name, member)) throw Bad(start + at, $"the zip member {CheckpointErrors.Quote(name)} appears twice");
            at += total;
        }
        return members;
    }

    private ZipMember ReadMember(ReadOnlySpan<byte> record, string name, ReadOnlySpan<byte> extra, long directoryStart)
    {
        string quoted = $"zip member {CheckpointErrors.Quote(name)}";
        int flags = U16(record[8..]), method = U16(record[10..]);
        if ((flags & 1) != 0) throw Bad(directoryStart, $"{quoted} is encrypted");
        if (method is not (0 or 8)) throw Bad(directoryStart, $"{quoted} is compressed with method {method}, expected 0 (stored) or 8 (deflate)");
        long compressed = U32(record[20..]), size = U32(record[24..]), local = U32(record[42..]);
        ReadZip64(extra, ref size, ref compressed, ref local);
        if (size < 0 || compressed < 0 || local < 0 || local > directoryStart - LocalBytes || compressed > directoryStart - LocalBytes - local)
            throw Bad(Math.Max(0, local), $"{quoted} with {compressed} bytes lies outside of the file");
        if (method == 0 && compressed != size) throw Bad(local, $"{quoted} is stored, but its sizes {compressed} and {size} differ");
        byte[] header = ReadAt(local, LocalBytes);
        if (U32(header) != LocalMagic) throw Bad(local, $"{quoted} has no local header");
        long start = local + LocalBytes + U16(header.AsSpan(26)) + U16(header.AsSpan(28));
        if (start > directoryStart - compressed) throw Bad(local, $"{quoted} with {compressed} bytes lies outside of the file");
        return new ZipMember(name, start, compressed, size, method == 8, U32(record[16..]));
    }

    // The extra field 1 holds, in this order, those of the three values that are all ones in the record.
    private static void ReadZip64(ReadOnlySpan<byte> extra, ref long size, ref long compressed, ref long local)
    {
        while (extra.Length >= 4)
        {
            int id = U16(extra), length = Math.Min(U16(extra[2..]), extra.Length - 4);
            ReadOnlySpan<byte> field = extra.Slice(4, length);
            extra = extra[(4 + length)..];
            if (id != 1) continue;
            Take(ref field, ref size);
            Take(ref field, ref compressed);
            Take(ref field, ref local);
            return;
        }

        static void Take(ref ReadOnlySpan<byte> field, ref long value)
        {
            if (value != 0xffffffff || field.Length < 8) return;
            value = I64(field);
            field = field[8..];
        }
    }

    private void CheckSizes(IEnumerable<ZipMember> members, long directoryStart)
    {
        long end = 0, inflated = 0, mostInflated = (_length * LargestInflation) + FreeInflation;
        foreach (ZipMember member in members.OrderBy(m => m.Start).ThenBy(m => m.CompressedSize))
        {
            if (member.Start < end) throw Bad(member.Start, $"zip member {CheckpointErrors.Quote(member.Name)} overlaps the one before");
            end = member.Start + member.CompressedSize;
            if (!member.Deflated) continue;
            if (member.Size > mostInflated - inflated)
                throw Bad(member.Start, $"zip member {CheckpointErrors.Quote(member.Name)} promises {member.Size} bytes out of {member.CompressedSize}: this is no weight file but a zip bomb");
            inflated += member.Size;
        }
        if (end > directoryStart) throw Bad(directoryStart, "the zip directory overlaps a member");
    }

    private byte[] ReadAt(long offset, int count)
    {
        byte[] bytes = new byte[count];
        FileRegion.ReadExactly(_handle, offset, bytes);
        return bytes;
    }

    private BgeMetalException Bad(long offset, string why) => CheckpointErrors.Corrupt(_file, $"byte {offset}: {why}");

    private static int U16(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt16LittleEndian(bytes);

    private static uint U32(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt32LittleEndian(bytes);

    private static long I64(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadInt64LittleEndian(bytes);
}
