using System.Buffers;
using System.Runtime.InteropServices;
using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>
/// Where each line of a file that is not blank begins, made in one pass over the bytes: five bytes a line (40-bit offsets), so a 10 GB file of ten million rows
/// takes 50 MB. Blank lines (spaces, tabs and carriage returns only) cost one entry for each run of them, which keeps line numbers right.
/// </summary>
internal sealed class LineIndex
{
    private const long MaxOffset = 1L << 40;
    private const int ChunkBits = 16, ChunkMask = (1 << ChunkBits) - 1;

    private readonly List<uint[]> _low = [];
    private readonly List<byte[]> _high = [];
    private readonly List<(int Row, long Blank)> _blankBefore = [];
    private readonly long _end;
    private long _blank;

    private LineIndex(long end) => _end = end;

    /// <summary>Lines that are not blank.</summary>
    public int Count { get; private set; }

    /// <summary>A number that changes when a line starts elsewhere or the file ends elsewhere.</summary>
    public ulong Fingerprint { get; private set; }

    /// <summary>Reads all of <paramref name="bytes"/> once, in order; <paramref name="source"/> names them in errors.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, is larger than a terabyte or has more than two billion lines.</exception>
    public static LineIndex Build(RowBytes bytes, string source)
    {
        if (bytes.Length >= MaxOffset) throw new BgeMetalException("cannot read", $"the file has {bytes.Length:N0} bytes, more than {MaxOffset:N0}", source);
        LineIndex index = new(bytes.Length);
        byte[] buffer = ArrayPool<byte>.Shared.Rent((int)Math.Clamp(bytes.Length, 16, 1 << 20));
        try
        {
            index.Scan(bytes, buffer, source);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        index.Fingerprint = CounterRandom.Mix(index.Fingerprint ^ (ulong)bytes.Length);
        return index;
    }

    /// <summary>The first byte of a line.</summary>
    public long Start(int row) => ((long)_high[row >> ChunkBits][row & ChunkMask] << 32) | _low[row >> ChunkBits][row & ChunkMask];

    /// <summary>A position at or behind the end of a line, with nothing but blank lines between: the start of the next, or the end of the file.</summary>
    public long Limit(int row) => row + 1 < Count ? Start(row + 1) : _end;

    /// <summary>The 1-based number of a line in the file, blank lines counted.</summary>
    public long LineNumber(int row)
    {
        Span<(int Row, long Blank)> runs = CollectionsMarshal.AsSpan(_blankBefore);
        int low = 0, high = runs.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (runs[middle].Row <= row) low = middle + 1;
            else high = middle;
        }

        return row + 1L + (low == 0 ? 0 : runs[low - 1].Blank);
    }

    private void Scan(RowBytes bytes, byte[] buffer, string source)
    {
        long lineStart = 0, position = 0;
        bool blank = true;
        for (int read; (read = bytes.Read(position, buffer)) > 0; position += read)
        {
            ReadOnlySpan<byte> block = buffer.AsSpan(0, read);
            int at = position == 0 && block.StartsWith(LineReader.ByteOrderMark) ? LineReader.ByteOrderMark.Length : 0;
            if (position == 0) lineStart = at;
            while (at < block.Length)
            {
                int length = block[at..].IndexOf((byte)'\n');
                ReadOnlySpan<byte> piece = length < 0 ? block[at..] : block.Slice(at, length);
                if (blank) blank = piece.IndexOfAnyExcept(" \t\r"u8) < 0;
                if (length < 0) break;
                Add(lineStart, blank, source);
                at += length + 1;
                lineStart = position + at;
                blank = true;
            }
        }

        if (lineStart < position) Add(lineStart, blank, source);
    }

    private void Add(long start, bool blank, string source)
    {
        if (blank)
        {
            _blank++;
            if (_blankBefore.Count > 0 && _blankBefore[^1].Row == Count) _blankBefore[^1] = (Count, _blank);
            else _blankBefore.Add((Count, _blank));
            return;
        }

        if (Count == int.MaxValue) throw new BgeMetalException("cannot read", $"the file has more than {int.MaxValue:N0} rows", source);
        int place = Count & ChunkMask;
        if (place == 0)
        {
            _low.Add(new uint[Count == 0 ? 64 : ChunkMask + 1]);
            _high.Add(new byte[Count == 0 ? 64 : ChunkMask + 1]);
        }
        else if (place == _low[^1].Length)
        {
            _low[^1] = Doubled(_low[^1]);
            _high[^1] = Doubled(_high[^1]);
        }

        _low[^1][place] = (uint)start;
        _high[^1][place] = (byte)(start >> 32);
        Count++;
        Fingerprint = CounterRandom.Mix(Fingerprint ^ (ulong)start);
    }

    private static T[] Doubled<T>(T[] array)
    {
        Array.Resize(ref array, 2 * array.Length);
        return array;
    }
}
