using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes of a search: queries [queries, dim], and how many neighbours each is to have.</summary>
public readonly record struct TopKShape(int Queries, int Dim, int Neighbours);

/// <summary>
/// Exact k nearest rows by inner product over a corpus that lies in device memory or arrives in blocks: <see cref="Begin"/>, any number of
/// <see cref="Add{T}"/>, <see cref="Finish"/>. Scores of bf16 and fp16 come from the tensor cores with binary32 sums, all others are binary32 multiply-adds in
/// order, whether a matrix tile computes them or, for up to 16 queries, a scan; ties go to the lower row, NaN scores rank last. A score does not depend on the other queries, the blocks or their order, and neither do the
/// results: there is no atomic, and the order is total. Cost of Add: 2 queries rows dim FLOP and the corpus read once; of the scores only the
/// strips of 64 reach memory that may hold a result, about 2 k of them a query in each pass over random rows, because a pass looks at up to eight times as many rows as all
/// before it.
/// </summary>
public static class TopK
{
    /// <summary>The most neighbours.</summary>
    public const int MaximumNeighbours = TopKKernels.Capacity / 2;

    // Columns of a pass: whole tiles; few at first, so that later passes have something to be compared with.
    private const int ColumnStep = 128, FirstColumns = 16384, MostColumns = 1 << 20;

    /// <summary>64-bit integers of the results on the way: <c>state</c> of the other methods.</summary>
    public static long StateLength(TopKShape shape) => KeysLength(shape) + (shape.Queries + 1L) / 2;

    /// <summary>The least workspace, in binary32 elements, that <see cref="Add{T}"/> takes; 128 times as much lets it run at full speed.</summary>
    public static long MinimumWorkspace(TopKShape shape) => (long)shape.Queries * (ColumnStep + ColumnStep / TopKKernels.Strip);

    /// <summary>Begins a search: nothing found yet.</summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">Sizes, all positive; at most <see cref="MaximumNeighbours"/>.</param>
    /// <param name="state">[<see cref="StateLength"/>].</param>
    /// <exception cref="ArgumentException">A size is out of range.</exception>
    public static void Begin(KernelDevice device, TopKShape shape, DevicePointer<long> state)
    {
        Check(device, shape);
        device.Fill(state.Address, 0, StateLength(shape) * sizeof(long));
    }

    /// <summary>Enqueues a look at <paramref name="rows"/> more corpus rows. Blocks may come in any order.</summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">As in <see cref="Begin"/>.</param>
    /// <param name="queries">[queries, dim], the same in every call.</param>
    /// <param name="corpus">[rows, dim].</param>
    /// <param name="rows">Rows in this block; 0 does nothing.</param>
    /// <param name="firstRow">The number of the block's first row; numbers must stay below 2^32.</param>
    /// <param name="state">Updated.</param>
    /// <param name="workspace">At least <see cref="MinimumWorkspace"/>; the results do not depend on it.</param>
    /// <exception cref="ArgumentException">A size or number is out of range, or the workspace is too small.</exception>
    public static void Add<T>(KernelDevice device, TopKShape shape, DeviceMatrix<T> queries, DeviceMatrix<T> corpus, long rows, long firstRow,
        DevicePointer<long> state, Workspace workspace) where T : unmanaged, IElement
    {
        Check(device, shape);
        if (rows < 0 || firstRow < 0 || firstRow + rows > 1L << 32) throw new ArgumentException($"rows {firstRow} to {firstRow + rows} cannot be numbered", nameof(rows));
        long least = MinimumWorkspace(shape);
        if (workspace.Length < least) throw new ArgumentException($"{shape} needs a workspace of {least} elements, there are {workspace.Length}", nameof(workspace));
        int most = (int)Math.Min(workspace.Length / least * ColumnStep, MostColumns);
        for (long done = 0; done < rows;)
        {
            int columns = (int)Math.Min(Math.Min(most, Math.Max(FirstColumns, 8 * done)), rows - done);
            DeviceMatrix<T> part = new(new(corpus.Start.At(done * corpus.Stride)), corpus.Stride);
            Pass(device, shape, queries, part, columns, firstRow + done, state, workspace);
            done += columns;
        }
    }

    /// <summary>Enqueues the results. The state stays as it is: more rows may be added.</summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">As in <see cref="Begin"/>.</param>
    /// <param name="state">As the blocks left it.</param>
    /// <param name="rows">[queries, neighbours] receives row numbers, best first; -1 behind the last when fewer rows were added.</param>
    /// <param name="scores">[queries, neighbours] receives the scores; -infinity behind the last.</param>
    /// <exception cref="ArgumentException">A size is out of range.</exception>
    public static void Finish(KernelDevice device, TopKShape shape, DevicePointer<long> state, DevicePointer<long> rows, DevicePointer<FP32> scores)
    {
        Check(device, shape);
        long count = KeysLength(shape);
        device.Launch(TopKKernels.Write, new GridSize(checked((int)((count + 127) / 128))),
            new TopKResults { Keys = state, Rows = rows, Scores = scores, Count = count });
    }

    // Neighbouring blocks share a tile of the corpus, which is so read once.
    private static void Pass<T>(KernelDevice device, TopKShape shape, DeviceMatrix<T> queries, DeviceMatrix<T> corpus, int columns, long firstRow,
        DevicePointer<long> state, Workspace workspace) where T : unmanaged, IElement
    {
        long stride = (columns + ColumnStep - 1L) / ColumnStep * ColumnStep, strips = (columns + TopKKernels.Strip - 1L) / TopKKernels.Strip;
        DeviceMatrix<FP32> scores = new(workspace.Start, stride);
        DevicePointer<FP32> largest = new(workspace.Start.At(shape.Queries * stride));
        DevicePointer<int> thresholds = new(state.Address + KeysLength(shape) * sizeof(long));
        GemmPlan plan = GemmPlan.Choose<T, Nt>(device, shape.Queries, columns, shape.Dim, queries, corpus, default);
        GridSize grid = new((plan.M + plan.Block - 1) / plan.Block, (plan.N + plan.Block - 1) / plan.Block);
        TopKTiles tiles = new() { Scores = scores, Largest = largest, Thresholds = thresholds, Strips = strips };
        GemmArguments<TopKTiles> arguments = plan.Arguments(tiles);
        if (typeof(T) == typeof(FP32) && shape.Queries <= TopKScan.MostQueries && shape.Dim % 4 == 0 && queries.IsAligned && corpus.IsAligned)
            device.Launch(TopKScan.Score, new GridSize((shape.Queries + 7) / 8, (columns + 127) / 128), new TopKScanArguments
            {
                Queries = new(queries.Start.Cast<FP32>(), queries.Stride),
                Corpus = new(corpus.Start.Cast<FP32>(), corpus.Stride),
                Tiles = tiles,
                QueryCount = shape.Queries,
                Rows = columns,
                Dim = shape.Dim,
            });
        else if (!plan.TensorCores) device.Launch(TopKKernels.ScoreExact<T>, grid, arguments);
        else if (plan.LargeTile) device.Launch(TopKKernels.Score<T, Tile128, Accumulator128>, grid, arguments);
        else device.Launch(TopKKernels.Score<T, Tile64, Accumulator32>, grid, arguments);
        device.Launch(TopKKernels.Select, new GridSize(shape.Queries), new TopKSelection
        {
            Scores = scores,
            Largest = largest,
            Keys = state,
            Thresholds = thresholds,
            Strips = strips,
            FirstRow = firstRow,
            Columns = columns,
            K = shape.Neighbours,
        });
    }

    private static long KeysLength(TopKShape shape) => (long)shape.Queries * shape.Neighbours;

    private static void Check(KernelDevice device, TopKShape shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (shape.Queries <= 0 || shape.Dim <= 0 || shape.Neighbours is <= 0 or > MaximumNeighbours)
            throw new ArgumentException($"sizes must be positive and neighbours at most {MaximumNeighbours}: {shape}", nameof(shape));
    }
}
