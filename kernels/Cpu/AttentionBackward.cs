using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradients of <see cref="Attention"/> without an [L, L] matrix (Dao et al., arXiv:2205.14135, algorithm 4): probabilities are computed again from the
/// scores and the forward pass's logSumExp. One part is one head of one sequence, so nothing is shared and every sum has one order. Blocks of 512 queries
/// meet blocks of 96 keys. Everything lies keys by queries: strips of 12 keys give S^T = K Q^T and dP^T = V dO^T, whose rows are at once the first
/// operands of dV = P^T dO and dK = dS^T Q; dQ^T = K^T dS^T reads dS^T as its second operand, so no score is ever transposed.
/// Cost: 10 Lq Lk headDim FLOP and Lq Lk exponentials a head (the forward pass: 4).
/// </summary>
public static unsafe class AttentionBackward
{
    private const int QueryBlock = 512;
    private const int KeyBlock = 8 * Tiles.MaxRows;
    private const int StrideKeys = KeyBlock + 16;         // not a power of two
    private const int VisibleWords = QueryBlock / 64;

    /// <summary>Stores dq, dk and dv from the gradient of the output.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, numHeads * headDim], as in the forward pass, rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least numHeads * headDim.</param>
    /// <param name="k">[keys, numHeads * headDim].</param>
    /// <param name="ldk">At least numHeads * headDim.</param>
    /// <param name="v">[keys, numHeads * headDim].</param>
    /// <param name="ldv">At least numHeads * headDim.</param>
    /// <param name="output">[queries, numHeads * headDim]: what the forward pass computed.</param>
    /// <param name="ldo">At least numHeads * headDim.</param>
    /// <param name="doutput">[queries, numHeads * headDim].</param>
    /// <param name="lddo">At least numHeads * headDim.</param>
    /// <param name="logSumExp">[numHeads, cuSeqlensQ[sequences]], from the forward pass.</param>
    /// <param name="cuSeqlensQ">[sequences + 1].</param>
    /// <param name="cuSeqlensK">[sequences + 1].</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="numHeads">Heads, at least 1.</param>
    /// <param name="headDim">Columns of a head, at least 1.</param>
    /// <param name="scale">As in the forward pass.</param>
    /// <param name="dropout">The probability of the forward pass, 0 for none.</param>
    /// <param name="seed">The seed of the forward pass's dropout.</param>
    /// <param name="dq">[queries, numHeads * headDim]; the three gradients must not overlap anything.</param>
    /// <param name="lddq">At least numHeads * headDim.</param>
    /// <param name="dk">[keys, numHeads * headDim]; 0 for keys of a sequence without queries.</param>
    /// <param name="lddk">At least numHeads * headDim.</param>
    /// <param name="dv">[keys, numHeads * headDim].</param>
    /// <param name="lddv">At least numHeads * headDim.</param>
    /// <param name="firstQuery">The mask's row for query row 0, as in the forward pass.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Run(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, float* output, int ldo, float* doutput, int lddo, float* logSumExp,
        int* cuSeqlensQ, int* cuSeqlensK, int sequences, int numHeads, int headDim, float scale, float dropout, ulong seed,
        float* dq, int lddq, float* dk, int lddk, float* dv, int lddv, int firstQuery = 0) =>
        Run(team, q, ldq, k, ldk, v, ldv, output, ldo, doutput, lddo, logSumExp, cuSeqlensQ, cuSeqlensK, sequences, numHeads, headDim, scale, dropout, seed,
            dq, lddq, dk, lddk, dv, lddv, firstQuery, null, null);

    /// <summary>The same, with the bits of <see cref="MaskedAttention"/> where <paramref name="visible"/> is not null.</summary>
    internal static void Run(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, float* output, int ldo, float* doutput, int lddo, float* logSumExp,
        int* cuSeqlensQ, int* cuSeqlensK, int sequences, int numHeads, int headDim, float scale, float dropout, ulong seed,
        float* dq, int lddq, float* dk, int lddk, float* dv, int lddv, int firstQuery, ulong* visible, int* visibleStarts)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentNullException.ThrowIfNull(logSumExp);
        ArgumentOutOfRangeException.ThrowIfNegative(sequences);
        ArgumentOutOfRangeException.ThrowIfLessThan(numHeads, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(headDim, 1);
        if (!(scale > 0f) || !float.IsFinite(scale)) throw new ArgumentOutOfRangeException(nameof(scale), scale, "the scale must be positive and finite");
        DropoutMask.Check(dropout);
        int width = checked(numHeads * headDim);
        foreach (int stride in (ReadOnlySpan<int>)[ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv]) ArgumentOutOfRangeException.ThrowIfLessThan(stride, width);
        BackwardJob job = new()
        {
            Q = q,
            StrideQ = ldq,
            K = k,
            StrideK = ldk,
            V = v,
            StrideV = ldv,
            Output = output,
            StrideO = ldo,
            Doutput = doutput,
            StrideDo = lddo,
            LogSumExp = logSumExp,
            CuSeqlensQ = cuSeqlensQ,
            CuSeqlensK = cuSeqlensK,
            NumHeads = numHeads,
            HeadDim = headDim,
            Scale = scale,
            Dropout = dropout,
            Seed = seed,
            FirstQuery = firstQuery,
            Dq = dq,
            StrideDq = lddq,
            Dk = dk,
            StrideDk = lddk,
            Dv = dv,
            StrideDv = lddv,
            Visible = visible,
            VisibleStarts = visibleStarts,
            TotalQueries = sequences == 0 ? 0 : cuSeqlensQ[sequences],
        };
        team.Run(ref job, checked(sequences * numHeads));
    }

    /// <summary>One part is one head of one sequence.</summary>
    private struct BackwardJob : ITeamJob
    {
        public float* Q;
        public nint StrideQ;
        public float* K;
        public nint StrideK;
        public float* V;
        public nint StrideV;
        public float* Output;
        public nint StrideO;
        public float* Doutput;
        public nint StrideDo;
        public float* LogSumExp;
        public int* CuSeqlensQ;
        public int* CuSeqlensK;
        public int NumHeads;
        public int HeadDim;
        public float Scale;
        public float Dropout;
        public ulong Seed;
        public int FirstQuery;
        public float* Dq;
        public nint StrideDq;
        public float* Dk;
        public nint StrideDk;
        public float* Dv;
        public nint StrideDv;
        public ulong* Visible;
        public int* VisibleStarts;
        public int TotalQueries;

        public readonly void Execute(int part, int worker)
        {
            int head = part % NumHeads, sequence = part / NumHeads;
            int firstQuery = CuSeqlensQ[sequence], queries = CuSeqlensQ[sequence + 1] - firstQuery;
            int firstKey = CuSeqlensK[sequence], keys = CuSeqlensK[sequence + 1] - firstKey;
            int column = head * HeadDim;
            if (queries == 0 || keys == 0)
            {
                Clear(Dq + (firstQuery * StrideDq) + column, StrideDq, queries);
                Clear(Dk + (firstKey * StrideDk) + column, StrideDk, keys);
                Clear(Dv + (firstKey * StrideDv) + column, StrideDv, keys);
                return;
            }
            Workspace work = Take(Math.Min(queries, QueryBlock), keys);
            for (int query = 0; query < queries; query += QueryBlock)
            {
                int count = Math.Min(QueryBlock, queries - query);
                PackQueries(in work, firstQuery + query, count, head);
                if (work.Visible != null) VisibleBits.Transpose(Visible + VisibleStarts[sequence], query, count, keys, work.Visible, VisibleWords);
                for (int key = 0; key < keys; key += KeyBlock)
                    Block(in work, firstQuery + query, count, firstKey, key, Math.Min(KeyBlock, keys - key), head, query == 0);
                PanelPacking.TransposeRows(work.Dq, work.Stride, HeadDim, count, Dq + ((firstQuery + query) * StrideDq) + column, StrideDq);
            }
        }

        private readonly void Clear(float* rows, nint stride, int count)
        {
            for (int i = 0; i < count; i++) new Span<float>(rows + (i * stride), HeadDim).Clear();
        }

        private readonly Workspace Take(int mostQueries, int keys)
        {
            int columns = (mostQueries + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns, panels = (HeadDim + Tiles.Columns - 1) / Tiles.Columns;
            nint stride = columns + 16, across = (nint)columns * HeadDim, along = (nint)columns * panels * Tiles.Columns;
            float* memory = ThreadScratch.Floats((2 * across) + (2 * along) + (stride * (HeadDim + KeyBlock + (2 * Tiles.MaxRows) + 2)) + ((nint)StrideKeys * HeadDim)
                + (Visible == null ? 0 : (nint)keys * VisibleWords * 2));
            Workspace work = new() { Stride = stride, ValuePanels = panels, QueriesAcross = memory, GradientsAcross = memory + across };
            work.Queries = memory + (2 * across);
            work.Gradients = work.Queries + along;
            work.Dq = work.Gradients + along;
            work.Dscores = work.Dq + (stride * HeadDim);
            work.Scores = work.Dscores + (stride * KeyBlock);
            work.Mask = work.Scores + (stride * Tiles.MaxRows);
            work.Log = work.Mask + (stride * Tiles.MaxRows);
            work.Delta = work.Log + stride;
            work.Keys = work.Delta + stride;
            work.Visible = Visible == null ? null : (ulong*)(work.Keys + ((nint)StrideKeys * HeadDim));
            return work;
        }

        private readonly void PackQueries(in Workspace work, int first, int count, int head)
        {
            float* q = Q + (first * StrideQ) + (head * HeadDim);
            float* gradient = Doutput + (first * StrideDo) + (head * HeadDim);
            float* output = Output + (first * StrideO) + (head * HeadDim);
            for (int i = 0; i < count; i += Tiles.Columns)
            {
                int rows = Math.Min(Tiles.Columns, count - i);
                PanelPacking.Transpose(q + (i * StrideQ), StrideQ, rows, HeadDim, work.QueriesAcross + ((nint)i * HeadDim));
                PanelPacking.Transpose(gradient + (i * StrideDo), StrideDo, rows, HeadDim, work.GradientsAcross + ((nint)i * HeadDim));
            }
            for (int p = 0; p < work.ValuePanels; p++)
            {
                int columns = Math.Min(Tiles.Columns, HeadDim - (p * Tiles.Columns));
                PanelPacking.Copy(q + (p * Tiles.Columns), StrideQ, count, columns, work.Queries + ((nint)p * count * Tiles.Columns));
                PanelPacking.Copy(gradient + (p * Tiles.Columns), StrideDo, count, columns, work.Gradients + ((nint)p * count * Tiles.Columns));
            }
            int padded = (count + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns;
            for (int i = 0; i < padded; i++)
            {
                work.Log[i] = i < count ? LogSumExp[((nint)head * TotalQueries) + first + i] * VectorMath.Log2E : float.PositiveInfinity;
                work.Delta[i] = i < count ? DotProduct.Of(gradient + (i * StrideDo), output + (i * StrideO), HeadDim) : 0f;
            }
            new Span<float>(work.Dq, (int)work.Stride * HeadDim).Clear();
        }

        private readonly void Block(in Workspace work, int firstQuery, int queries, int firstKey, int key, int keys, int head, bool first)
        {
            float* zero = stackalloc float[Tiles.Columns];
            float* tile = stackalloc float[Tiles.MaxRows * Tiles.Columns];
            new Span<float>(zero, Tiles.Columns).Clear();
            float* k = K + ((firstKey + key) * StrideK) + (head * HeadDim);
            float* v = V + ((firstKey + key) * StrideV) + (head * HeadDim);
            for (int row = 0; row < keys; row += Tiles.MaxRows)
            {
                int rows = Math.Min(Tiles.MaxRows, keys - row), padded = 0;
                float* dscores = work.Dscores + (row * work.Stride);
                for (; padded < queries; padded += Tiles.Columns)
                {
                    Tiles.Multiply(rows, k + (row * StrideK), StrideK, work.QueriesAcross + ((nint)padded * HeadDim), Tiles.Columns, HeadDim, work.Scores + padded, work.Stride, zero);
                    Tiles.Multiply(rows, v + (row * StrideV), StrideV, work.GradientsAcross + ((nint)padded * HeadDim), Tiles.Columns, HeadDim, dscores + padded, work.Stride, zero);
                }
                for (int r = 0; r < rows && work.Visible != null; r++)
                    VisibleBits.Hide(work.Scores + (r * work.Stride), padded, work.Visible + ((nint)(key + row + r) * VisibleWords));
                float* mask = Dropout == 0f ? null : work.Mask;
                if (mask != null)
                {
                    DropoutMask masks = new(Dropout, Seed, (uint)head, FirstQuery);
                    for (int r = 0; r < rows; r += 4)
                        masks.FourColumns((uint)firstQuery, padded, (uint)(key + row + r), mask + (r * work.Stride), work.Stride);
                }
                AttentionWeights.Backward(work.Scores, dscores, mask, work.Stride, rows, padded, Scale * VectorMath.Log2E, work.Log, work.Delta, Scale);
                nint at = firstKey + key + row;
                for (int p = 0; p < work.ValuePanels; p++)
                {
                    int columns = Math.Min(Tiles.Columns, HeadDim - (p * Tiles.Columns)), column = (head * HeadDim) + (p * Tiles.Columns);
                    Tiles.Multiply(rows, work.Scores, work.Stride, work.Gradients + ((nint)p * queries * Tiles.Columns), Tiles.Columns, queries, tile, Tiles.Columns, zero);
                    Keep(tile, rows, columns, Dv + (at * StrideDv) + column, StrideDv, first);
                    Tiles.Multiply(rows, dscores, work.Stride, work.Queries + ((nint)p * queries * Tiles.Columns), Tiles.Columns, queries, tile, Tiles.Columns, zero);
                    Keep(tile, rows, columns, Dk + (at * StrideDk) + column, StrideDk, first);
                }
            }
            PanelPacking.TransposeRows(k, StrideK, keys, HeadDim, work.Keys, StrideKeys);
            for (int d = 0, rows; d < HeadDim; d += rows)
            {
                rows = Tiles.Next(HeadDim - d);
                for (int i = 0; i < queries; i += Tiles.Columns)
                {
                    Tiles.Multiply(rows, work.Keys + (d * (nint)StrideKeys), StrideKeys, work.Dscores + i, work.Stride, keys, tile, Tiles.Columns, zero);
                    Elementwise.Add(work.Dq + (d * work.Stride) + i, work.Stride, tile, Tiles.Columns, rows, Tiles.Columns);
                }
            }
        }

        private static void Keep(float* tile, int rows, int columns, float* result, nint stride, bool first)
        {
            if (!first)
            {
                Elementwise.Add(result, stride, tile, Tiles.Columns, rows, columns);
                return;
            }
            for (int r = 0; r < rows; r++)
                new Span<float>(tile + (r * Tiles.Columns), columns).CopyTo(new Span<float>(result + (r * stride), columns));
        }
    }

    /// <summary>Pointers into the thread's scratch for one part.</summary>
    private struct Workspace
    {
        public float* QueriesAcross;                      // [ceil(block / 32)][headDim][32]: Q^T
        public float* GradientsAcross;                    // the same of dO
        public float* Queries;                            // [ceil(headDim / 32)][block][32]: Q
        public float* Gradients;                          // the same of dO
        public float* Dq;                                 // [headDim][Stride]: dQ^T
        public float* Dscores;                            // [96][Stride]: dP^T, then dS^T
        public float* Scores;                             // [12][Stride]: S^T, then P^T
        public float* Mask;                               // [12][Stride]
        public float* Log;                                // [Stride]: logSumExp in base 2; +infinity behind the last query makes probability 0
        public float* Delta;                              // [Stride]: dO . O
        public float* Keys;                               // [headDim][112]: K^T
        public ulong* Visible;                            // [keys][8]: the bits of the block's queries, or null
        public nint Stride;
        public int ValuePanels;
    }
}
