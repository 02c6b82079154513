using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>
/// Exact top-k by inner product on CUDA, one search after another: <see cref="Begin"/>, any number of <see cref="Add"/>, <see cref="Finish"/>. Scores are binary32 multiply-adds
/// in the order of the columns, as on the CPU; ties go to the lower row, NaN scores rank last. No tape: there is nothing to differentiate. See <see cref="TopK"/> for the cost.
/// </summary>
/// <param name="device">A GPU or its emulation, whose workspace takes the scores.</param>
internal sealed class TopKOp(Device device) : IDisposable
{
    /// <summary>The most neighbours of a search.</summary>
    public const int MostNeighbours = TopK.MaximumNeighbours;

    /// <summary>The most rows of a corpus.</summary>
    public const long MostRows = 1L << 32;

    private TopKShape _shape;
    private DeviceBlock? _memory;
    private int _stride;

    /// <summary>The most queries of a search that <paramref name="device"/> has workspace for.</summary>
    public static int MostQueries(Device device) =>
        (int)Math.Clamp(device.WorkspaceFloats / TopK.MinimumWorkspace(new TopKShape(1, 1, 1)), 1, 1 << 20);

    /// <summary>Begins a search; the queries are copied.</summary>
    /// <param name="queries">[m, dim], at least one row.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="k">Neighbours wanted, 1 to <see cref="MostNeighbours"/>.</param>
    /// <exception cref="BgeMetal.Kernels.Runtime.DeviceException">There is not enough memory.</exception>
    public void Begin(ReadOnlySpan<float> queries, int dim, int k)
    {
        _shape = new TopKShape(queries.Length / dim, dim, k);
        _stride = device.RowStride(dim);
        if (_memory is null || _memory.SizeBytes < End)
        {
            _memory?.Dispose();
            _memory = null;
            _memory = device.Allocate(End);
        }
        if (_stride == dim) device.Write(queries, _memory.Address);
        else
            for (int i = 0; i < _shape.Queries; i++) device.Write(queries.Slice(i * dim, dim), _memory.Address + ((nint)i * _stride * sizeof(float)));
        TopK.Begin(device.Kernels, _shape, new DevicePointer<long>(At(StateAt)));
    }

    /// <summary>Enqueues a look at more corpus rows.</summary>
    /// <param name="rows">[count, dim] in device memory, rows <paramref name="stride"/> floats apart; must stay until the device has come here.</param>
    /// <param name="stride">At least dim; a multiple of 4 is fast.</param>
    /// <param name="count">Rows.</param>
    /// <param name="firstRow">The number of the first row. Blocks may come in any order.</param>
    public void Add(nint rows, int stride, long count, long firstRow) => TopK.Add<FP32>(device.Kernels, _shape, new(new(_memory!.Address), _stride), new(new(rows), stride), count, firstRow,
        new DevicePointer<long>(At(StateAt)), device.Workspace);

    /// <summary>Waits for the results.</summary>
    /// <param name="rows">[m, k] receives row numbers, best first; -1 behind the last.</param>
    /// <param name="scores">[m, k] receives the scores; -infinity behind the last.</param>
    public void Finish(Span<long> rows, Span<float> scores)
    {
        TopK.Finish(device.Kernels, _shape, new DevicePointer<long>(At(StateAt)), new DevicePointer<long>(At(RowsAt)), new DevicePointer<FP32>(At(ScoresAt)));
        device.Read(At(RowsAt), rows);
        device.Read(At(ScoresAt), scores);
    }

    /// <inheritdoc/>
    public void Dispose() => _memory?.Dispose();

    // One allocation: queries, state, row numbers, scores, each at a multiple of 256 bytes.
    private long StateAt => Rounded((long)_shape.Queries * _stride * sizeof(float));

    private long RowsAt => StateAt + Rounded(TopK.StateLength(_shape) * sizeof(long));

    private long ScoresAt => RowsAt + Rounded((long)_shape.Queries * _shape.Neighbours * sizeof(long));

    private long End => ScoresAt + Rounded((long)_shape.Queries * _shape.Neighbours * sizeof(float));

    private static long Rounded(long sizeBytes) => (sizeBytes + 255) / 256 * 256;

    private nint At(long offset) => _memory!.Address + (nint)offset;
}
