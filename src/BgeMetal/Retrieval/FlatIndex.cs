using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Retrieval;

/// <summary>
/// An exact vector index: a table of float32 rows, searched whole by inner product, with an id and a text for each row. On disk it is one file whose vectors and texts
/// are mapped into memory, so it may be larger than memory. Thread-safe; a search that runs while the index is disposed ends normally, a later one throws
/// <see cref="ObjectDisposedException"/>. The file must not be changed in place while it is open (replacing it by a new one is fine).
/// </summary>
public sealed unsafe class FlatIndex : IDisposable
{
    private readonly SafeBuffer _memory;
    private readonly FlatIndexFormat _format;
    private readonly IReadOnlyList<string>? _ids;
    private readonly IReadOnlyList<string>? _texts;
    private readonly int _threads;
    private volatile IExactSearch _search;
    private volatile bool _disposed;

    private FlatIndex(SafeBuffer memory, FlatIndexFormat format, long vectorsAt, IReadOnlyList<string>? ids, IReadOnlyList<string>? texts, int threads)
    {
        _threads = threads;
        _memory = memory;
        _format = format;
        _ids = ids;
        _texts = texts;
        byte* start = null;
        memory.AcquirePointer(ref start);
        Vectors = new VectorTable((nint)(start + vectorsAt), format.Stride, format.Rows);
        memory.ReleasePointer();
        _search = ExactSearch.Over([Vectors], Dimension, threads, null);
    }

    /// <summary>The most hits of a query that a GPU finds; searches for more run on the CPU, with the same results.</summary>
    public const int MostHitsOnGpu = Ops.TopKOp.MostNeighbours;

    /// <summary>Values in a vector.</summary>
    public int Dimension => _format.Dimension;

    /// <summary>How many rows.</summary>
    public long Count => _format.Rows;

    /// <summary>The model the vectors were made with, as it was named when the index was built; empty when unknown.</summary>
    public string Model { get; private init; } = "";

    /// <summary>The instruction to put before queries; empty for none.</summary>
    public string QueryInstruction { get; private init; } = "";

    /// <summary>The vectors; they stay until the index is closed.</summary>
    internal VectorTable Vectors { get; }

    /// <summary>Starts a new index file. See <see cref="FlatIndexWriter"/>.</summary>
    /// <param name="path">The file to make; an old one is replaced when the writer commits.</param>
    /// <param name="dimension">Values in a vector.</param>
    /// <param name="model">The model's name, kept in the file.</param>
    /// <param name="queryInstruction">The instruction to put before queries, kept in the file.</param>
    /// <exception cref="BgeMetalException">The file cannot be created.</exception>
    public static FlatIndexWriter Create(string path, int dimension, string model = "", string queryInstruction = "") => new(path, dimension, model, queryInstruction);

    /// <summary>Opens an index file and checks its header, its size and its table of texts.</summary>
    /// <param name="path">The file.</param>
    /// <param name="threads">Threads a search may use; 0 for one a core. The results do not depend on it.</param>
    /// <exception cref="BgeMetalException">The file is missing, truncated, damaged, or no index.</exception>
    public static FlatIndex Open(string path, int threads = 0)
    {
        if (!File.Exists(path)) throw new BgeMetalException("cannot open the index", Directory.Exists(path) ? "this is a directory, a file was expected" : "there is no such file", path);
        try
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1 << 16);
            byte[] header = new byte[FlatIndexFormat.HeaderBytes];
            int got = file.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
            FlatIndexFormat format = FlatIndexFormat.Parse(header.AsSpan(0, got), file.Length, path);
            (string model, string instruction) = FlatIndexFormat.ParseMetadata(header, format.ReadMetadata(file), path);
            format.CheckOffsets(file, path);
            return new FlatIndex(Map(file), format, FlatIndexFormat.HeaderBytes, null, null, threads) { Model = model, QueryInstruction = instruction };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot open the index", e.Message, path, innerException: e);
        }
    }

    /// <summary>An index in memory.</summary>
    /// <param name="vectors">Row-major [rows, dimension]; copied.</param>
    /// <param name="dimension">Values in a vector.</param>
    /// <param name="ids">One id a row; null for the row's number from 0.</param>
    /// <param name="texts">One text a row; null for none.</param>
    /// <param name="threads">Threads a search may use; 0 for one a core. The results do not depend on it.</param>
    /// <exception cref="ArgumentException">The lengths do not fit together.</exception>
    public static FlatIndex FromVectors(ReadOnlySpan<float> vectors, int dimension, IReadOnlyList<string>? ids = null, IReadOnlyList<string>? texts = null, int threads = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(dimension);
        if (vectors.Length % dimension != 0) throw new ArgumentException($"{vectors.Length} values are no whole number of rows of {dimension}", nameof(vectors));
        int rows = vectors.Length / dimension;
        if (ids is not null && ids.Count != rows) throw new ArgumentException($"{rows} ids were expected, found {ids.Count}", nameof(ids));
        if (texts is not null && texts.Count != rows) throw new ArgumentException($"{rows} texts were expected, found {texts.Count}", nameof(texts));
        FlatIndexFormat format = new(dimension, rows, 0, 0);
        AlignedMemory memory = new((long)rows * format.Stride * sizeof(float));
        CopyPadded(vectors, rows, dimension, format.Stride, (float*)memory.DangerousGetHandle());
        return new FlatIndex(memory, format, 0, ids ?? [.. Enumerable.Range(0, rows).Select(i => $"{i}")], texts, threads);
    }

    /// <summary>The best rows for one query, best first: at most k, fewer when the index is smaller.</summary>
    /// <param name="query">The query vector, <see cref="Dimension"/> values.</param>
    /// <param name="k">How many hits at most, at least 1.</param>
    /// <param name="cancellationToken">Ends the search early.</param>
    /// <exception cref="ArgumentException">The query has another length.</exception>
    /// <exception cref="ObjectDisposedException">The index is closed.</exception>
    public SearchHit[] Search(ReadOnlySpan<float> query, int k, CancellationToken cancellationToken = default)
    {
        if (query.Length != Dimension) throw new ArgumentException($"a query of {Dimension} values was expected, found {query.Length}", nameof(query));
        return SearchBatch(query, k, cancellationToken)[0];
    }

    /// <summary>The best rows for each query, as <see cref="Search(ReadOnlySpan{float}, int, CancellationToken)"/>; many queries in one call read the vectors once.</summary>
    public SearchHit[][] Search(IReadOnlyList<float[]> queries, int k, CancellationToken cancellationToken = default)
    {
        float[] joined = new float[checked(queries.Count * Dimension)];
        for (int i = 0; i < queries.Count; i++)
        {
            if (queries[i].Length != Dimension) throw new ArgumentException($"query {i} has {queries[i].Length} values, {Dimension} were expected", nameof(queries));
            queries[i].CopyTo(joined, i * Dimension);
        }

        return SearchBatch(joined, k, cancellationToken);
    }

    /// <summary>The best rows for each of several queries given as one row-major matrix [m, <see cref="Dimension"/>].</summary>
    public SearchHit[][] SearchBatch(ReadOnlySpan<float> queries, int k, CancellationToken cancellationToken = default)
    {
        int m = queries.Length / Dimension;
        k = (int)Math.Min(k, Math.Max(1, Count));
        long[] rows = new long[checked(m * Math.Max(k, 0))];
        float[] scores = new float[rows.Length];
        byte* memory = Acquire();
        try
        {
            Run(queries, k, rows, scores, cancellationToken);
            SearchHit[][] hits = new SearchHit[m][];
            for (int q = 0; q < m; q++)
            {
                hits[q] = new SearchHit[(int)Math.Min(k, Count)];
                for (int i = 0; i < hits[q].Length; i++)
                {
                    long row = rows[(q * k) + i];
                    hits[q][i] = new SearchHit(Record(memory, row, part: 0), scores[(q * k) + i], Record(memory, row, part: 1), row);
                }
            }

            return hits;
        }
        finally
        {
            _memory.ReleasePointer();
        }
    }

    /// <summary>The same without ids and texts.</summary>
    /// <param name="queries">Row-major [m, <see cref="Dimension"/>].</param>
    /// <param name="k">Hits a query, at least 1.</param>
    /// <param name="rows">[m, k]: row numbers, best first, equal scores by row number; -1 where there are fewer than k rows.</param>
    /// <param name="scores">[m, k]: inner products; negative infinity where there are fewer than k rows.</param>
    /// <param name="cancellationToken">Ends the search early.</param>
    /// <exception cref="ArgumentException">The lengths do not fit together.</exception>
    /// <exception cref="ObjectDisposedException">The index is closed.</exception>
    public void SearchRows(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken cancellationToken = default)
    {
        Acquire();
        try
        {
            Run(queries, k, rows, scores, cancellationToken);
        }
        finally
        {
            _memory.ReleasePointer();
        }
    }

    /// <summary>
    /// Lets searches run where an embedder computes, when that is a GPU; the hits stay the same, bit for bit. Where the free device memory has room for the vectors twice, they stay
    /// there. Not while a search runs. The embedder must outlive the searches.
    /// </summary>
    public void SearchOn(Embedder embedder)
    {
        ArgumentNullException.ThrowIfNull(embedder);
        ObjectDisposedException.ThrowIf(_disposed, this);
        _search.Dispose();
        _search = ExactSearch.Over([Vectors], Dimension, _threads, embedder.ComputesOn);
    }

    /// <summary>The id of a row.</summary>
    /// <exception cref="ObjectDisposedException">The index is closed.</exception>
    public string IdAt(long row) => Record(row, part: 0);

    /// <summary>The text of a row; empty where there is none.</summary>
    /// <exception cref="ObjectDisposedException">The index is closed.</exception>
    public string TextAt(long row) => Record(row, part: 1);

    /// <summary>Copies the vector of a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="destination">At least <see cref="Dimension"/> values.</param>
    /// <exception cref="ObjectDisposedException">The index is closed.</exception>
    public void CopyVector(long row, Span<float> destination)
    {
        ThrowIfNoRow(row);
        Acquire();
        try
        {
            new ReadOnlySpan<float>(Vectors.At(row), Dimension).CopyTo(destination);
        }
        finally
        {
            _memory.ReleasePointer();
        }
    }

    /// <summary>Closes the index. Searches that are running end normally; the memory is given back after the last of them.</summary>
    public void Dispose()
    {
        _disposed = true;
        _search.Dispose();
        _memory.Dispose();
    }

    /// <summary>Keeps the memory until ReleasePointer.</summary>
    private byte* Acquire()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        byte* memory = null;
        _memory.AcquirePointer(ref memory);
        return memory;
    }

    private void Run(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(k);
        int m = queries.Length / Dimension;
        if (queries.Length != (long)m * Dimension) throw new ArgumentException($"{queries.Length} values are no whole number of queries of {Dimension}", nameof(queries));
        if (rows.Length != (long)m * k || scores.Length != rows.Length) throw new ArgumentException($"results of [{m}, {k}] were expected", nameof(rows));
        _search.Run(queries, k, rows, scores, ct);
    }

    private string Record(long row, int part)
    {
        ThrowIfNoRow(row);
        byte* memory = Acquire();
        try
        {
            return Record(memory, row, part);
        }
        finally
        {
            _memory.ReleasePointer();
        }
    }

    private string Record(byte* memory, long row, int part)
    {
        if (_ids is not null) return part == 0 ? _ids[(int)row] : _texts is null ? "" : _texts[(int)row];
        long* offset = (long*)(memory + _format.OffsetsAt) + (2 * row) + part;
        return Encoding.UTF8.GetString(memory + _format.RecordsAt + offset[0], (int)(offset[1] - offset[0]));
    }

    private void ThrowIfNoRow(long row)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Count);
    }

    private static void CopyPadded(ReadOnlySpan<float> source, int rows, int dimension, int stride, float* target)
    {
        for (int r = 0; r < rows; r++) source.Slice(r * dimension, dimension).CopyTo(new Span<float>(target + ((long)r * stride), dimension));
    }

    private static SafeMemoryMappedViewHandle Map(FileStream file)
    {
        using MemoryMappedFile map = MemoryMappedFile.CreateFromFile(file, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        return map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read).SafeMemoryMappedViewHandle;
    }
}
