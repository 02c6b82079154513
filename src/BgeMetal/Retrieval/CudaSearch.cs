using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>
/// Exact search on a GPU. The corpus comes from host memory, mapped or not, in pieces through page-locked memory, and as much of it as half of the free device memory takes stays there:
/// what stays is copied once, the rest once for every 2048 queries. Searches for more than <see cref="TopKOp.MostNeighbours"/> hits run on the CPU, with the same results.
/// </summary>
internal sealed unsafe class CudaSearch : IExactSearch
{
    private const long PieceBytes = 64L << 20;
    private const int WholePassRows = 1 << 14;            // what a launch of the kernel begins with: a piece is a multiple of it
    private const int QueriesAtATime = 2048;

    private readonly int _dimensions;
    private readonly int _threads;
    private readonly Device _device;
    private readonly CpuSearch _cpu;
    private readonly Piece[] _pieces;
    private readonly DeviceBlock?[] _kept;
    private readonly int _mostQueries;
    private readonly TopKOp _search;
    private StagedUploads? _uploads;
    private long _keepBytes;
    private bool _disposed;

    /// <summary>A search of the tables on <paramref name="device"/>, which the caller keeps.</summary>
    /// <param name="corpus">The tables.</param>
    /// <param name="dimensions">Values in a vector.</param>
    /// <param name="threads">Threads that copy, and search where the GPU does not; 0 for one a core.</param>
    /// <param name="device">A GPU or its emulation.</param>
    /// <param name="pieceBytes">About the size of a piece.</param>
    /// <param name="keepBytes">Corpus that may stay on the device; null for half of its free memory.</param>
    /// <param name="mostQueries">Queries that are searched for at a time.</param>
    public CudaSearch(IReadOnlyList<VectorTable> corpus, int dimensions, int threads, Device device, long pieceBytes = PieceBytes, long? keepBytes = null, int mostQueries = QueriesAtATime)
    {
        (_dimensions, _threads, _device) = (dimensions, threads, device);
        _cpu = new CpuSearch(corpus, dimensions, threads);
        _pieces = [.. Cut(corpus, pieceBytes)];
        _kept = new DeviceBlock?[_pieces.Length];
        _keepBytes = keepBytes ?? -1;
        _mostQueries = Math.Min(mostQueries, TopKOp.MostQueries(device));
        _search = new TopKOp(device);
    }

    /// <summary>How many bytes of the corpus have been copied to the device so far.</summary>
    internal long UploadedBytes { get; private set; }

    /// <inheritdoc/>
    public void Run(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct)
    {
        if (k > TopKOp.MostNeighbours)
        {
            _cpu.Run(queries, k, rows, scores, ct);
            return;
        }
        lock (_device.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            try
            {
                for (int m = queries.Length / _dimensions, first = 0; first < m; first += _mostQueries)
                {
                    int count = Math.Min(_mostQueries, m - first);
                    RunBlock(queries.Slice(first * _dimensions, count * _dimensions), k, rows.Slice(first * k, count * k), scores.Slice(first * k, count * k), ct);
                }
            }
            catch (Exception e) when (Device.IsFailure(e))
            {
                throw _device.Failure(e);
            }
        }
    }

    /// <summary>Gives the device's memory back; waits for a search that runs.</summary>
    public void Dispose()
    {
        lock (_device.Gate)
        {
            if (_disposed) return;
            _disposed = true;
            _search.Dispose();
            _uploads?.Dispose();
            foreach (DeviceBlock? piece in _kept) piece?.Dispose();
        }
    }

    private void RunBlock(ReadOnlySpan<float> queries, int k, Span<long> rows, Span<float> scores, CancellationToken ct)
    {
        if (_keepBytes < 0) _keepBytes = _device.AvailableBytes() / 2;
        _search.Begin(queries, _dimensions, k);
        for (int i = 0; i < _pieces.Length; i++)
        {
            ct.ThrowIfCancellationRequested();
            Piece piece = _pieces[i];
            bool isThere = _kept[i] is not null;
            _search.Add(isThere ? _kept[i]!.Address : Bring(i), piece.Stride, piece.Count, piece.FirstRow);
            if (!isThere) _uploads!.Read();
        }
        _search.Finish(rows, scores);
    }

    private nint Bring(int number)
    {
        Piece piece = _pieces[number];
        _uploads ??= new StagedUploads(_device, CpuSearch.Team(_threads), _pieces.Max(each => each.SizeBytes));
        DeviceBlock? kept = Keep(piece.SizeBytes);
        nint address = _uploads.Bring(piece.Rows, piece.SizeBytes, kept?.Address ?? 0);
        _kept[number] = kept;
        UploadedBytes += piece.SizeBytes;
        return address;
    }

    /// <summary>Memory for a piece that stays, or null where there is none left for it.</summary>
    private DeviceBlock? Keep(long sizeBytes)
    {
        if (sizeBytes > _keepBytes) return null;
        try
        {
            DeviceBlock kept = _device.Allocate(sizeBytes);
            _keepBytes -= sizeBytes;
            return kept;
        }
        catch (Exception e) when (Device.IsFailure(e))
        {
            _keepBytes = 0;
            return null;
        }
    }

    private static IEnumerable<Piece> Cut(IReadOnlyList<VectorTable> corpus, long pieceBytes)
    {
        long firstRow = 0;
        foreach (VectorTable table in corpus)
        {
            long most = Math.Max(1, pieceBytes / ((long)table.Stride * sizeof(float)));
            if (most > WholePassRows) most = most / WholePassRows * WholePassRows;
            for (long done = 0; done < table.Count; done += most) yield return Piece.Of(table, done, Math.Min(most, table.Count - done), firstRow + done);
            firstRow += table.Count;
        }
    }

    private readonly record struct Piece(nint Address, int Stride, long Count, long FirstRow)
    {
        public void* Rows => (void*)Address;

        public long SizeBytes => Count * Stride * sizeof(float);

        public static Piece Of(VectorTable table, long row, long count, long firstRow) => new((nint)table.At(row), table.Stride, count, firstRow);
    }
}
