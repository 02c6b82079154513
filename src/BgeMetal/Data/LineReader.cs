using System.Buffers;
using System.Text;
using System.Text.Unicode;
using BgeMetal.Files;

namespace BgeMetal.Data;

/// <summary>
/// Splits a stream of bytes into lines at <c>\n</c> (a preceding <c>\r</c> is dropped) and nowhere else: U+2028, U+0085 and form feeds stay inside a line.
/// Every line is checked to be UTF-8. A byte order mark at the start is skipped. Memory: one buffer that grows to the longest line, at most
/// <see cref="MaxLineBytes"/>. After an error about one line, the next call goes on with the following line.
/// </summary>
internal sealed class LineReader : IDisposable
{
    /// <summary>Lines above this many bytes are refused: a file without line breaks must not fill the memory.</summary>
    public const int MaxLineBytes = 64 << 20;

    /// <summary>What may stand before the first line.</summary>
    public static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    private readonly Stream _stream;
    private readonly int _maxLineBytes;
    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(1 << 16);
    private int _start;
    private int _end;

    /// <summary>Reads <paramref name="stream"/>, which is owned from now on; <paramref name="source"/> names it in errors.</summary>
    public LineReader(Stream stream, string source, int maxLineBytes = MaxLineBytes)
    {
        _stream = stream;
        Source = source;
        _maxLineBytes = maxLineBytes;
    }

    /// <summary>The file as the user named it, or "-".</summary>
    public string Source { get; }

    /// <summary>The 1-based number of the line read last; 0 before the first.</summary>
    public long Line { get; private set; }

    /// <summary>Opens a file, a <c>.gz</c> file (by its ending), or standard input (<c>-</c>).</summary>
    /// <exception cref="BgeMetalException">The file is missing, a directory, or may not be read.</exception>
    public static LineReader Open(string pathOrDash)
    {
        if (pathOrDash == "-") return new LineReader(Console.OpenStandardInput(), "-");
        if (Directory.Exists(pathOrDash)) throw new BgeMetalException("cannot read", "this is a directory, a file was expected", pathOrDash);
        if (!File.Exists(pathOrDash)) throw new BgeMetalException("cannot read", "there is no such file", pathOrDash);
        try
        {
            Stream file = new FileStream(pathOrDash, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
            bool compressed = pathOrDash.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
            return new LineReader(compressed ? new GzipInput(file) : file, pathOrDash);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new BgeMetalException("cannot read", e.Message, pathOrDash, innerException: e);
        }
    }

    /// <summary>The next line without its end, valid until the next call; false at the end. A final line without <c>\n</c> counts; nothing after a final <c>\n</c> does not.</summary>
    /// <exception cref="BgeMetalException">The line is too long or not UTF-8 (with its number), or the stream fails (number 0).</exception>
    public bool TryRead(out ReadOnlyMemory<byte> line)
    {
        line = default;
        int scanned = 0;
        int length;
        bool last = false;
        while ((length = _buffer.AsSpan(_start + scanned, _end - _start - scanned).IndexOf((byte)'\n')) < 0)
        {
            scanned = _end - _start;
            if (scanned > _maxLineBytes) throw SkipTooLong();
            if (Fill()) continue;
            last = true;
            break;
        }

        length = last ? _end - _start : scanned + length;
        if (last && (length == 0 || (Line == 0 && _buffer.AsSpan(_start, length).SequenceEqual(ByteOrderMark)))) return false;
        line = _buffer.AsMemory(_start, length);
        _start = last ? _end : _start + length + 1;
        Line++;
        if (Line == 1 && line.Span.StartsWith(ByteOrderMark)) line = line[ByteOrderMark.Length..];
        if (line.Length > 0 && line.Span[^1] == '\r') line = line[..^1];
        if (line.Length > _maxLineBytes) throw TooLong();
        CheckUtf8(line.Span, Source, Line);
        return true;
    }

    /// <summary>The first byte that is neither white space nor part of a byte order mark, without consuming anything; 0 when there is none within the limit of a line.</summary>
    public byte PeekNonBlank()
    {
        for (int i = 0; i <= _maxLineBytes; i++)
        {
            while (_start + i >= _end)
                if (!Fill()) return 0;
            byte b = _buffer[_start + i];
            if (b is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n' || (Line == 0 && i < 3 && b == ByteOrderMark[i])) continue;
            return b;
        }

        return 0;
    }

    /// <summary>An error about the line read last.</summary>
    public BgeMetalException Error(string why, Exception? cause = null) => new("bad input", why, Source, Line, cause);

    /// <inheritdoc/>
    public void Dispose()
    {
        _stream.Dispose();
        byte[] buffer = _buffer;
        _buffer = [];
        _start = _end = 0;
        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
    }

    private bool Fill()
    {
        if (_end == _buffer.Length)
        {
            byte[] target = _start > 0 ? _buffer : ArrayPool<byte>.Shared.Rent(_buffer.Length * 2);
            Buffer.BlockCopy(_buffer, _start, target, 0, _end - _start);
            if (target != _buffer) ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = target;
            _end -= _start;
            _start = 0;
        }

        int read = ReadStream(_buffer.AsSpan(_end));
        _end += read;
        return read > 0;
    }

    private int ReadStream(Span<byte> target)
    {
        try
        {
            return _stream.Read(target);
        }
        catch (InvalidDataException e)
        {
            throw new BgeMetalException("cannot read", $"the gzip data is broken or cut off after line {Line}: {e.Message}", Source, innerException: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new BgeMetalException("cannot read", $"{e.Message} (after line {Line})", Source, innerException: e);
        }
    }

    private BgeMetalException TooLong() => Error($"the line is longer than {_maxLineBytes:N0} bytes");

    private BgeMetalException SkipTooLong()
    {
        Line++;
        int newLine;
        do
        {
            _start = _end = 0;
            if (!Fill()) return TooLong();
        }
        while ((newLine = _buffer.AsSpan(0, _end).IndexOf((byte)'\n')) < 0);
        _start = newLine + 1;
        return TooLong();
    }

    /// <summary>Checks the bytes of a line.</summary>
    /// <exception cref="BgeMetalException">They are not UTF-8.</exception>
    public static void CheckUtf8(ReadOnlySpan<byte> line, string source, long number)
    {
        if (Utf8.IsValid(line)) return;
        if (number == 1 && (line.StartsWith([(byte)0xFF, (byte)0xFE]) || line.StartsWith([(byte)0xFE, (byte)0xFF])))
            throw new BgeMetalException("bad input", "the text is UTF-16, UTF-8 was expected", source, number);
        int position = 0;
        while (Rune.DecodeFromUtf8(line[position..], out _, out int consumed) == OperationStatus.Done) position += consumed;
        throw new BgeMetalException("bad input", $"not valid UTF-8 at byte {position + 1} of the line (0x{line[position]:X2})", source, number);
    }
}
