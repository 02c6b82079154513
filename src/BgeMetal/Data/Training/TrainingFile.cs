using System.Buffers;
using System.Collections.Concurrent;
using System.Text.Json;

namespace BgeMetal.Data.Training;

/// <summary>
/// A file of one JSON object a line, read a row at a time in any order and from any thread. Only the line index is in memory. Blank lines are no rows. A row is
/// checked when it is read; <see cref="Check{T}"/> checks all of them beforehand and can take the bad ones out.
/// </summary>
internal sealed class TrainingFile : IDisposable
{
    private readonly RowBytes _bytes;
    private readonly LineIndex _index;
    private readonly int _maxLineBytes;
    private int[] _excluded = [];

    private TrainingFile(string path, RowBytes bytes, LineIndex index, int maxLineBytes)
    {
        Path = path;
        _bytes = bytes;
        _index = index;
        _maxLineBytes = maxLineBytes;
    }

    /// <summary>The file as the user named it.</summary>
    public string Path { get; }

    /// <summary>Bytes, after decompression.</summary>
    public long Length => _bytes.Length;

    /// <summary>Rows, without those that <see cref="Check{T}"/> took out.</summary>
    public int Rows => _index.Count - _excluded.Length;

    /// <summary>A number that changes when the layout of the file's lines or the set of its rows changes.</summary>
    public ulong Fingerprint
    {
        get
        {
            ulong hash = _index.Fingerprint;
            foreach (int row in _excluded) hash = Tensors.CounterRandom.Mix(hash ^ (uint)row);
            return hash;
        }
    }

    /// <summary>Opens a file and indexes its lines; a <c>.gz</c> file is decompressed first.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or its gzip data is damaged.</exception>
    public static TrainingFile Open(string path, int memoryBytes = RowBytes.MemoryBytes, int maxLineBytes = LineReader.MaxLineBytes)
    {
        RowBytes bytes = RowBytes.Open(path, memoryBytes);
        try
        {
            return new TrainingFile(path, bytes, LineIndex.Build(bytes, path), maxLineBytes);
        }
        catch
        {
            bytes.Dispose();
            throw;
        }
    }

    /// <summary>Where a row stands.</summary>
    public RowPlace Place(int row) => new(Path, _index.LineNumber(Physical(row)));

    /// <summary>Reads a row; <paramref name="parse"/> must take out of the JSON all it needs.</summary>
    /// <exception cref="BgeMetalException">The row is malformed (with file and line), or the file cannot be read (line 0).</exception>
    public T Read<T>(int row, Func<JsonRow, T> parse) => ReadPhysical(Physical(row), parse);

    /// <summary>Parses every row, on all processors. A bad row is taken out and counted in <paramref name="skipped"/>, or thrown when that is null: the first in the file.</summary>
    /// <exception cref="BgeMetalException">A row is malformed and <paramref name="skipped"/> is null, or the file cannot be read.</exception>
    public void Check<T>(Func<JsonRow, T> parse, InvalidLines? skipped)
    {
        const int BlockRows = 256;
        ConcurrentDictionary<int, BgeMetalException> bad = new();
        int blocks = (int)(((long)_index.Count + BlockRows - 1) / BlockRows);
        Parallel.For(0, blocks, (block, state) =>
        {
            int end = (int)Math.Min(_index.Count, (block + 1L) * BlockRows);
            for (int row = block * BlockRows; row < end; row++)
            {
                try
                {
                    ReadPhysical(row, parse);
                }
                catch (BgeMetalException e)
                {
                    bad[row] = e;
                    if (skipped is not null && e.Line > 0) continue;
                    state.Break();
                    return;
                }
            }
        });

        int[] rows = [.. bad.Keys.Order()];
        foreach (int row in rows)
        {
            if (skipped is null || bad[row].Line == 0) throw bad[row];
            skipped.Add(bad[row]);
        }

        _excluded = rows;
    }

    /// <inheritdoc/>
    public void Dispose() => _bytes.Dispose();

    /// <summary>The number of a row among all lines that are not blank: excluded rows before it are stepped over by bisection.</summary>
    private int Physical(int row)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        int low = 0, high = _excluded.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_excluded[middle] - middle <= row) low = middle + 1;
            else high = middle;
        }

        return row + low;
    }

    private T ReadPhysical<T>(int row, Func<JsonRow, T> parse)
    {
        long start = _index.Start(row), line = _index.LineNumber(row);
        byte[] buffer = [];
        try
        {
            int length = ReadLine(start, _index.Limit(row) - start, line, ref buffer);
            ReadOnlyMemory<byte> bytes = buffer.AsMemory(0, length);
            LineReader.CheckUtf8(bytes.Span, Path, line);
            using JsonDocument document = JsonLineReader.Parse(bytes, Path, line);
            return parse(new JsonRow(document.RootElement, Path, line));
        }
        finally
        {
            if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Reads a line of at most <paramref name="limit"/> bytes with whatever blank lines follow it, in steps, so that a gigabyte of blanks is not read.</summary>
    private int ReadLine(long start, long limit, long line, ref byte[] buffer)
    {
        const int Step = 1 << 20;
        int read = 0;
        while (read < limit)
        {
            int want = (int)Math.Min(limit, read + (long)Step);
            if (buffer.Length < want) Grow(ref buffer, read, Math.Max(want, (int)Math.Min(limit, 2L * read)));
            if (_bytes.Read(start + read, buffer.AsSpan(read, want - read)) < want - read) throw new BgeMetalException("cannot read", "the file has become shorter", Path);
            int end = buffer.AsSpan(read, want - read).IndexOf((byte)'\n');
            if (end >= 0) return CheckLength(read + end, line);
            read = CheckLength(want, line);
        }

        return read;
    }

    private int CheckLength(int length, long line) =>
        length <= _maxLineBytes ? length : throw new BgeMetalException("bad input", $"the line is longer than {_maxLineBytes:N0} bytes", Path, line);

    private static void Grow(ref byte[] buffer, int used, int length)
    {
        byte[] larger = ArrayPool<byte>.Shared.Rent(length);
        buffer.AsSpan(0, used).CopyTo(larger);
        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
        buffer = larger;
    }
}
