using System.Buffers;
using System.IO.Compression;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>
/// The bytes of one zip member. Stored members are read in place; deflated ones are inflated once, into memory that grows with what really comes out
/// and never beyond the promised size. The checksum is verified once, by <see cref="Verify"/>; a checksum of 0 means that the writer computed none
/// (PyTorch can be told so). Damage is reported by an <see cref="InvalidDataException"/>, which the caller turns into an error that names the tensor.
/// </summary>
internal sealed class ZipMemberBytes : TensorBytes
{
    private const int Chunk = 1 << 20;
    private readonly Lock _lock = new();
    private readonly FileRegion _region;
    private readonly ZipMember _member;
    private byte[]? _inflated;
    private volatile bool _verified;

    internal ZipMemberBytes(SafeFileHandle handle, ZipMember member)
    {
        _member = member;
        _region = new FileRegion(handle, member.Start, member.CompressedSize);
        _verified = member.Crc == 0;
    }

    /// <inheritdoc/>
    internal override long Length => _member.Size;

    /// <summary>Whether the bytes have been checked against the checksum, or need not be.</summary>
    internal bool Verified => _verified;

    /// <inheritdoc/>
    internal override void Read(long offset, Span<byte> destination)
    {
        if (_member.Deflated) Inflated().AsSpan((int)offset, destination.Length).CopyTo(destination);
        else _region.Read(offset, destination);
    }

    /// <summary>The whole member, verified, for members of at most <paramref name="largest"/> bytes.</summary>
    internal byte[] ReadAll(int largest)
    {
        if (Length > largest) throw Bad($"has {Length} bytes, more than the {largest} allowed");
        byte[] bytes = _member.Deflated ? Inflated() : new byte[Length];
        if (!_member.Deflated) _region.Read(0, bytes);
        Accept(Crc32.Append(0, bytes));
        return bytes;
    }

    /// <summary>Reads the member through and compares its checksum, once.</summary>
    /// <exception cref="InvalidDataException">It differs: the file is damaged.</exception>
    internal void Verify()
    {
        if (_verified) return;
        if (_member.Deflated)
        {
            Accept(Crc32.Append(0, Inflated()));
            return;
        }
        byte[] buffer = ArrayPool<byte>.Shared.Rent(Chunk);
        try
        {
            uint crc = 0;
            for (long at = 0; at < Length; at += Chunk)
            {
                Span<byte> part = buffer.AsSpan(0, (int)Math.Min(Chunk, Length - at));
                _region.Read(at, part);
                crc = Crc32.Append(crc, part);
            }
            Accept(crc);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Takes a checksum that was computed over all bytes while they were read.</summary>
    internal void Accept(uint crc)
    {
        if (_verified) return;
        if (crc != _member.Crc) throw Bad($"is damaged: its checksum is {crc:x8}, expected {_member.Crc:x8}");
        _verified = true;
    }

    private byte[] Inflated()
    {
        lock (_lock) return _inflated ??= Inflate();
    }

    private byte[] Inflate()
    {
        if (Length > Array.MaxLength) throw Bad($"is deflated and has {Length} bytes, more than the {Array.MaxLength} that can be inflated");
        using RegionStream compressed = new(_region);
        using DeflateStream inflater = new(compressed, CompressionMode.Decompress);
        byte[] bytes = new byte[Math.Min(Length, Chunk)];
        int count = 0;
        while (true)
        {
            if (count == bytes.Length)
            {
                if (count == Length) break;
                Array.Resize(ref bytes, (int)Math.Min(Length, bytes.Length * 2L));
            }
            int read = ReadInflated(inflater, bytes.AsSpan(count));
            if (read == 0) throw Bad($"inflates to {count} bytes, expected {Length}");
            count += read;
        }
        return ReadInflated(inflater, stackalloc byte[1]) == 0 ? bytes : throw Bad($"inflates to more than the {Length} bytes it promises");
    }

    private int ReadInflated(DeflateStream inflater, Span<byte> destination)
    {
        try { return inflater.Read(destination); }
        catch (InvalidDataException e) { throw Bad("cannot be inflated", e); }
    }

    private InvalidDataException Bad(string why, Exception? cause = null) => new($"byte {_member.Start}: zip member {CheckpointErrors.Quote(_member.Name)} {why}", cause);
}
