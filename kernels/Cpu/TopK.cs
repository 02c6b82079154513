using System.Numerics;
using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Exact k nearest rows by inner product over a corpus that lies in memory or arrives in blocks. A score is one chain of multiply-adds over the columns;
/// ties go to the lower row, NaN scores rank last. Results depend on neither the threads, nor the blocks, nor the other queries of the batch.
/// Few queries: each corpus row is read once and estimated at memory speed; rows whose estimate, plus a proven error bound, reaches the k-th best score so
/// far are scored exactly. Many queries: corpus rows are the first operand of the matrix tile, 32 queries the second, and a tile's scores are compared
/// with the queries' thresholds before any heap is touched. Cost: 2 m rows dim FLOP and the corpus read once for up to 2 queries, or from the caches.
/// </summary>
/// <remarks>
/// One object serves one search: construct, <see cref="Add"/> any number of blocks, <see cref="Finish"/>. Not thread-safe; the team is used inside.
/// </remarks>
public sealed unsafe class TopK : IDisposable
{
    private const int ScanQueries = 2;                    // up to here reading the corpus costs more than the arithmetic
    private const long ChunkBytes = 768 << 10;
    private const long BlockBytes = 384 << 10;
    private const long HeapBudgetBytes = 64L << 20;

    [ThreadStatic]
    private static TopK? t_reused;

    private WorkerTeam _team = WorkerTeam.Single;
    private NativeBuffer? _memory;
    private TopKHeaps _heaps;
    private float* _rows;                                 // [m][dim]: the queries
    private float* _norms;                                // [m]
    private float* _panels;                               // [ceil(m / 32)][dim][32], for more than ScanQueries queries
    private int _m;
    private int _dim;
    private int _k;
    private bool _finished;

    /// <summary>Begins a search.</summary>
    /// <param name="team">Who works, here and in the calls that follow.</param>
    /// <param name="queries">[m, dim]; copied, so the memory may be reused.</param>
    /// <param name="ldq">At least dim: floats between rows.</param>
    /// <param name="m">Queries, at least 0.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="k">Neighbours wanted, at least 1. Memory: 12 m k bytes a thread.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public TopK(WorkerTeam team, float* queries, int ldq, int m, int dim, int k)
    {
        Begin(team, queries, ldq, m, dim, k);
    }

    private TopK() { }

    /// <summary>Searches a corpus that lies in memory. Allocates no managed memory after a thread's first search.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="queries">[m, dim], rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="m">Queries; 0 does nothing.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="corpus">[rows, dim], rows <paramref name="ldc"/> floats apart.</param>
    /// <param name="ldc">At least dim.</param>
    /// <param name="rows">Corpus rows, at least 0.</param>
    /// <param name="k">Neighbours wanted, at least 1.</param>
    /// <param name="indices">[m, k] receives row numbers, best first; -1 behind the last when there are fewer rows than k.</param>
    /// <param name="scores">[m, k] receives the scores; -infinity behind the last.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Search(
        WorkerTeam team, float* queries, int ldq, int m, int dim, float* corpus, int ldc, long rows, int k, long* indices, float* scores)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        TopK search = t_reused ?? new TopK();
        t_reused = null;                                  // so that a search inside a search, or one that failed, never shares it
        int block = (int)Math.Clamp(HeapBudgetBytes / (12L * k * team.Threads) / Tiles.Columns * Tiles.Columns, Tiles.Columns, 1 << 20);
        for (int first = 0; first < m; first += block)
        {
            int count = Math.Min(block, m - first);
            search.Begin(team, queries + ((nint)first * ldq), ldq, count, dim, k);
            search.Add(corpus, ldc, rows, 0);
            search.Finish(indices + ((nint)first * k), scores + ((nint)first * k));
        }
        t_reused = search;
    }

    /// <summary>Looks at <paramref name="count"/> more corpus rows.</summary>
    /// <param name="rows">[count, dim], rows <paramref name="ldc"/> floats apart; not needed after the call.</param>
    /// <param name="ldc">At least dim.</param>
    /// <param name="count">Rows in this block; 0 does nothing.</param>
    /// <param name="baseIndex">The number of the block's first row, added to the rows' places to make the reported indices. Blocks may come in any order.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    /// <exception cref="InvalidOperationException">The search was finished.</exception>
    public void Add(float* rows, int ldc, long count, long baseIndex)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ldc, _dim);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        if (_finished) throw new InvalidOperationException("the search was finished; begin a new one");
        if (_m == 0 || count == 0) return;
        long chunk = Math.Max(1, ChunkBytes / ((long)_dim * sizeof(float) * Tiles.MaxRows)) * Tiles.MaxRows;
        long wanted = (count + (4L * _team.Threads) - 1) / (4L * _team.Threads);
        chunk = Math.Min(chunk, (wanted + Tiles.MaxRows - 1) / Tiles.MaxRows * Tiles.MaxRows);
        if (_team.Threads == 1) chunk = Math.Max(1, ChunkBytes / ((long)_dim * sizeof(float) * Tiles.MaxRows)) * Tiles.MaxRows;
        chunk = Math.Max(chunk, (count / int.MaxValue) + 1);
        SearchJob job = new()
        {
            Heaps = _heaps,
            Queries = _rows,
            Norms = _norms,
            Panels = _panels,
            M = _m,
            Dim = _dim,
            Corpus = rows,
            StrideC = ldc,
            Count = count,
            Base = baseIndex,
            Chunk = chunk,
            ErrorFactor = InnerProducts.ErrorFactor(_dim),
        };
        _team.Run(ref job, (int)((count + chunk - 1) / chunk));
    }

    /// <summary>Writes the result and ends the search.</summary>
    /// <param name="indices">[m, k] receives row numbers, best first; -1 behind the last when fewer than k rows were added.</param>
    /// <param name="scores">[m, k] receives the scores; -infinity behind the last.</param>
    /// <exception cref="InvalidOperationException">The search was finished before.</exception>
    public void Finish(long* indices, float* scores)
    {
        if (_finished) throw new InvalidOperationException("the search was finished; begin a new one");
        _finished = true;
        FinishJob job = new() { Heaps = _heaps, Workers = _team.Threads, K = _k, Indices = indices, Scores = scores };
        _team.Run(ref job, _m);
    }

    /// <summary>Frees the native memory. The team is left alone.</summary>
    public void Dispose()
    {
        _memory?.Dispose();
        _memory = null;
        _finished = true;
    }

    private void Begin(WorkerTeam team, float* queries, int ldq, int m, int dim, int k)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldq, dim);
        (_team, _m, _dim, _k, _finished) = (team, m, dim, k, false);
        bool packs = m > ScanQueries;
        long panelFloats = packs ? PackedMatrix.Length(m, dim) : 0, rowFloats = ((long)m * dim) + m;
        long heapBytes = TopKHeaps.SizeBytes(team.Threads, m, k), sizeBytes = ((panelFloats + rowFloats) * sizeof(float)) + 64 + heapBytes;
        if (_memory is null || _memory.SizeBytes < sizeBytes)
        {
            _memory?.Dispose();
            _memory = null;
            _memory = new NativeBuffer(sizeBytes);
        }
        _panels = packs ? _memory.Floats : null;
        _rows = _memory.Floats + panelFloats;
        _norms = _rows + ((long)m * dim);
        byte* heaps = _memory.Bytes + (((panelFloats + rowFloats) * sizeof(float)) + 63) / 64 * 64;
        _heaps.Start(heaps, team.Threads, m, k);
        for (int i = 0; i < m; i++)
        {
            float* query = queries + ((nint)i * ldq);
            new Span<float>(query, dim).CopyTo(new Span<float>(_rows + ((nint)i * dim), dim));
            double squares = 0;
            for (int j = 0; j < dim; j++) squares += (double)query[j] * query[j];
            _norms[i] = (float)(Math.Sqrt(squares) * 1.0001);
        }
        if (packs && m > 0) PackedMatrix.Pack(team, queries, ldq, m, dim, _panels);
    }

    /// <summary>One part is a range of corpus rows.</summary>
    private struct SearchJob : ITeamJob
    {
        public TopKHeaps Heaps;
        public float* Queries;
        public float* Norms;
        public float* Panels;
        public int M;
        public int Dim;
        public float* Corpus;
        public nint StrideC;
        public long Count;
        public long Base;
        public long Chunk;
        public float ErrorFactor;

        public readonly void Execute(int part, int worker)
        {
            long first = part * Chunk;
            int count = (int)Math.Min(Chunk, Count - first);
            float* rows = Corpus + (first * StrideC);
            if (Panels != null) Multiply(rows, count, Base + first, worker);
            else if (VectorUnit.Width == VectorWidth.Bits512) Scan<Lanes512>(rows, count, Base + first, worker);
            else if (VectorUnit.Width == VectorWidth.Bits256) Scan<Lanes256>(rows, count, Base + first, worker);
            else Scan<Lanes128>(rows, count, Base + first, worker);
        }

        // Skips a row only when it is certain that its exact score is below the threshold; anything with a NaN or an infinity in it is not certain.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Scan<T>(float* rows, int count, long firstIndex, int worker) where T : unmanaged, ILanes<T>
        {
            const float underflow = 1.1e-19f;             // elements below this vanish from a sum of squares
            float* thresholds = Heaps.Thresholds(worker);
            float lost = MathF.Sqrt(Dim) * underflow;
            for (int i = 0; i < count; i++, rows += StrideC)
            {
                for (int query = 0; query < M; query++)
                {
                    float* vector = Queries + ((nint)query * Dim);
                    float estimate = InnerProducts.Estimate<T>(vector, rows, Dim, out float squaredNorm);
                    float margin = (ErrorFactor * Norms[query] * (MathF.Sqrt(squaredNorm) + lost)) + 1e-37f;
                    if (estimate + (1.001f * margin) < thresholds[query]) continue;
                    Heaps.Offer(worker, query, InnerProducts.Exact(rows, vector, Dim), firstIndex + i);
                }
            }
        }

        private readonly void Multiply(float* rows, int count, long firstIndex, int worker)
        {
            float* tile = stackalloc float[Tiles.MaxRows * Tiles.Columns];
            float* zero = stackalloc float[Tiles.Columns];
            uint* masks = stackalloc uint[Tiles.MaxRows];
            new Span<float>(zero, Tiles.Columns).Clear();
            float* thresholds = Heaps.Thresholds(worker);
            int panels = (M + Tiles.Columns - 1) / Tiles.Columns;
            int blockPanels = (int)Math.Max(1, BlockBytes / ((long)Dim * Tiles.Columns * sizeof(float)));
            for (int block = 0; block < panels; block += blockPanels)
            {
                for (int i = 0; i < count;)
                {
                    int height = Tiles.Next(count - i);
                    for (int panel = block; panel < Math.Min(panels, block + blockPanels); panel++)
                    {
                        int query = panel * Tiles.Columns;
                        Tiles.Multiply(height, rows + (i * StrideC), StrideC, Panels + ((nint)query * Dim), Tiles.Columns, Dim, tile, Tiles.Columns, zero,
                            panel == block ? rows + ((i + height) * StrideC) : null);     // the next strip comes from memory meanwhile
                        if (InnerProducts.NotBelow(tile, height, thresholds + query, masks))
                            Offer(tile, height, masks, query, firstIndex + i, worker);
                    }
                    i += height;
                }
            }
        }

        private readonly void Offer(float* tile, int height, uint* masks, int firstQuery, long firstIndex, int worker)
        {
            uint valid = M - firstQuery >= Tiles.Columns ? uint.MaxValue : (1u << (M - firstQuery)) - 1;
            for (int r = 0; r < height; r++)
            {
                for (uint mask = masks[r] & valid; mask != 0; mask &= mask - 1)
                {
                    int j = BitOperations.TrailingZeroCount(mask);
                    Heaps.Offer(worker, firstQuery + j, tile[(r * Tiles.Columns) + j], firstIndex + r);
                }
            }
        }
    }

    /// <summary>One part is one query.</summary>
    private struct FinishJob : ITeamJob
    {
        public TopKHeaps Heaps;
        public int Workers;
        public int K;
        public long* Indices;
        public float* Scores;

        public readonly void Execute(int part, int worker) =>
            Heaps.Finish(part, Workers, Indices + ((nint)part * K), Scores + ((nint)part * K));
    }
}
