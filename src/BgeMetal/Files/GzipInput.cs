using System.IO.Compression;
using System.Security.Cryptography;

namespace BgeMetal.Files;

/// <summary>
/// Decompresses gzip, one member or several, and fails when the data is cut off. <see cref="GZipStream"/> takes the end of a truncated file for the end of the
/// data; so a small member of random bytes is fed to it after the file's own bytes. It comes out at the end only when everything before it was whole.
/// </summary>
internal sealed class GzipInput : Stream
{
    private const int MarkBytes = 64;

    private readonly byte[] _mark = NewMark();
    private readonly GZipStream _gzip;
    private readonly byte[] _buffer = new byte[1 << 16];
    private int _start;
    private int _count;

    /// <summary>Decompresses <paramref name="compressed"/>, which is owned from now on.</summary>
    public GzipInput(Stream compressed)
    {
        using MemoryStream member = new();
        using (GZipStream compressor = new(member, CompressionLevel.Optimal, leaveOpen: true)) compressor.Write(_mark);
        _gzip = new GZipStream(new AppendedStream(compressed, member.ToArray()), CompressionMode.Decompress);
    }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <summary>The next bytes; 0 at the end.</summary>
    /// <exception cref="InvalidDataException">The data is not gzip, is damaged, is cut off, or is followed by something that is not gzip.</exception>
    public override int Read(Span<byte> buffer)
    {
        while (_count <= MarkBytes)
        {
            _buffer.AsSpan(_start, _count).CopyTo(_buffer);
            _start = 0;
            int read = _gzip.Read(_buffer.AsSpan(_count));
            _count += read;
            if (read > 0) continue;
            if (!_buffer.AsSpan(0, _count).SequenceEqual(_mark)) throw new InvalidDataException("the end of the data is missing");
            return 0;
        }

        int length = Math.Min(_count - MarkBytes, buffer.Length);
        _buffer.AsSpan(_start, length).CopyTo(buffer);
        _start += length;
        _count -= length;
        return length;
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Flush() { }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _gzip.Dispose();
        base.Dispose(disposing);
    }

    /// <summary>Four random bytes over and over: compressed, they do not appear as themselves, so a cut-off file that swallows the member as plain data is found out too.</summary>
    private static byte[] NewMark()
    {
        byte[] pattern = RandomNumberGenerator.GetBytes(4);
        return [.. Enumerable.Range(0, MarkBytes).Select(i => pattern[i % 4])];
    }

    /// <summary>A stream with some bytes after its end.</summary>
    private sealed class AppendedStream(Stream first, byte[] then) : Stream
    {
        private int _position = -1;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            if (_position < 0)
            {
                int read = first.Read(buffer);
                if (read > 0 || buffer.Length == 0) return read;
                _position = 0;
            }

            int length = Math.Min(then.Length - _position, buffer.Length);
            then.AsSpan(_position, length).CopyTo(buffer);
            _position += length;
            return length;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing) first.Dispose();
            base.Dispose(disposing);
        }
    }
}
