using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Multi-head attention over packed sequences, softmax(q k^T * scale) v, without an [L, L] matrix (the blocking is FlashAttention's, Dao et al.,
/// arXiv:2205.14135, on a CPU's caches). One part is one head of one sequence, or a chunk of its queries: a block of up to 1024 keys is transposed into
/// panels, its values are laid beside them, and strips of 12 queries go through the matrix tile twice with an online softmax between. The strip of scores
/// (12 x 1024) and the block stay in the second-level cache. Padding does not exist: scores behind the last key are never part of a sum.
/// A query row's result depends on its query and its sequence's keys and values alone; key blocks start at the sequence's first key.
/// Cost: 4 Lq Lk headDim FLOP and Lq Lk exponentials a head.
/// </summary>
public static unsafe class Attention
{
    private const int KeyBlock = 1024;
    private const int FewQueries = 2 * Tiles.MaxRows;     // up to here the values are read in place, when their shape allows it: a copy would not pay

    /// <summary>output = softmax(q k^T * scale) v for every sequence and head.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, numHeads * headDim], rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least numHeads * headDim.</param>
    /// <param name="k">[keys, numHeads * headDim].</param>
    /// <param name="ldk">At least numHeads * headDim.</param>
    /// <param name="v">[keys, numHeads * headDim].</param>
    /// <param name="ldv">At least numHeads * headDim.</param>
    /// <param name="cuSeqlensQ">[sequences + 1]: sequence b owns query rows cuSeqlensQ[b]..cuSeqlensQ[b + 1].</param>
    /// <param name="cuSeqlensK">[sequences + 1]: and these keys and values. May be the same pointer.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="numHeads">Heads, at least 1.</param>
    /// <param name="headDim">Columns of a head, at least 1; multiples of 32 run without padding.</param>
    /// <param name="scale">Positive; usually 1 / sqrt(headDim).</param>
    /// <param name="output">[queries, numHeads * headDim]; must not overlap the inputs. Queries of a sequence without keys get 0.</param>
    /// <param name="ldo">At least numHeads * headDim.</param>
    /// <param name="logSumExp">[numHeads, cuSeqlensQ[sequences]] receives the natural logarithm of the sum of exponentials of the scaled scores, or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, int* cuSeqlensQ, int* cuSeqlensK, int sequences,
        int numHeads, int headDim, float scale, float* output, int ldo, float* logSumExp)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(sequences);
        ArgumentOutOfRangeException.ThrowIfLessThan(numHeads, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(headDim, 1);
        if (!(scale > 0f) || !float.IsFinite(scale)) throw new ArgumentOutOfRangeException(nameof(scale), scale, "the scale must be positive and finite");
        int width = checked(numHeads * headDim);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldq, width);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldk, width);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldv, width);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldo, width);
        AttentionJob job = new()
        {
            Q = q,
            StrideQ = ldq,
            K = k,
            StrideK = ldk,
            V = v,
            StrideV = ldv,
            CuSeqlensQ = cuSeqlensQ,
            CuSeqlensK = cuSeqlensK,
            NumHeads = numHeads,
            HeadDim = headDim,
            Factor = scale * VectorMath.Log2E,
            Scale = scale,
            Output = output,
            StrideO = ldo,
            LogSumExp = logSumExp,
            TotalQueries = sequences == 0 ? 0 : cuSeqlensQ[sequences],
        };
        job.Chunks = ChunksOf(cuSeqlensQ, sequences, numHeads, team.Threads);
        team.Run(ref job, checked(sequences * numHeads * job.Chunks));
    }

    // Heads and sequences are enough parts, except for one or two texts on many cores: then each head's queries are divided too.
    private static int ChunksOf(int* cuSeqlensQ, int sequences, int numHeads, int threads)
    {
        long parts = (long)sequences * numHeads;
        if (threads == 1 || parts == 0 || parts >= 2L * threads) return 1;
        int longest = 1;
        for (int b = 0; b < sequences; b++) longest = Math.Max(longest, cuSeqlensQ[b + 1] - cuSeqlensQ[b]);
        return (int)Math.Min(((2L * threads) + parts - 1) / parts, (longest + (4 * Tiles.MaxRows) - 1) / (4 * Tiles.MaxRows));
    }

    /// <summary>One part is one chunk of the queries of one head of one sequence.</summary>
    private struct AttentionJob : ITeamJob
    {
        public float* Q;
        public nint StrideQ;
        public float* K;
        public nint StrideK;
        public float* V;
        public nint StrideV;
        public int* CuSeqlensQ;
        public int* CuSeqlensK;
        public int NumHeads;
        public int HeadDim;
        public float Factor;
        public float Scale;
        public float* Output;
        public nint StrideO;
        public float* LogSumExp;
        public int TotalQueries;
        public int Chunks;

        public readonly void Execute(int part, int worker)
        {
            int chunk = part % Chunks, head = part / Chunks % NumHeads, sequence = part / Chunks / NumHeads;
            int firstQuery = CuSeqlensQ[sequence], queries = CuSeqlensQ[sequence + 1] - firstQuery;
            int strips = (queries + Tiles.MaxRows - 1) / Tiles.MaxRows;
            int from = (int)((long)strips * chunk / Chunks) * Tiles.MaxRows;
            int to = Math.Min(queries, (int)((long)strips * (chunk + 1) / Chunks) * Tiles.MaxRows);
            int firstKey = CuSeqlensK[sequence], keys = CuSeqlensK[sequence + 1] - firstKey;
            if (from >= to) return;
            if (keys == 0) Nothing(firstQuery + from, to - from, head);
            else Attend(firstQuery + from, to - from, firstKey, keys, head);
        }

        private readonly void Nothing(int firstQuery, int queries, int head)
        {
            for (int i = firstQuery; i < firstQuery + queries; i++)
            {
                new Span<float>(Output + (i * StrideO) + (head * HeadDim), HeadDim).Clear();
                if (LogSumExp != null) LogSumExp[((nint)head * TotalQueries) + i] = float.NegativeInfinity;
            }
        }

        private readonly void Attend(int firstQuery, int queries, int firstKey, int keys, int head)
        {
            int block = Math.Min(keys, KeyBlock);
            int valuePanels = (HeadDim + Tiles.Columns - 1) / Tiles.Columns;
            bool inPlace = queries <= FewQueries && HeadDim % Tiles.Columns == 0;
            nint strideScores = ((block + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns) + 16;
            long keyFloats = (strideScores - 16) * HeadDim, valueFloats = inPlace ? 0 : (long)block * valuePanels * Tiles.Columns;
            float* keyPanels = ThreadScratch.Floats(keyFloats + valueFloats + (Tiles.MaxRows * (strideScores + (valuePanels * Tiles.Columns))) + (2L * queries));
            Workspace work = new()
            {
                KeyPanels = keyPanels,
                ValuePanels = inPlace ? null : keyPanels + keyFloats,
                Scores = keyPanels + keyFloats + valueFloats,
                StrideScores = strideScores,
                Partial = keyPanels + keyFloats + valueFloats + (Tiles.MaxRows * strideScores),
                ValuePanelCount = valuePanels,
            };
            float* max = work.Partial + (Tiles.MaxRows * valuePanels * Tiles.Columns), sum = max + queries;
            new Span<float>(max, queries).Fill(float.NegativeInfinity);
            new Span<float>(sum, queries).Clear();
            float* output = Output + (firstQuery * StrideO) + (head * HeadDim);
            for (int key = 0; key < keys; key += KeyBlock)
            {
                int count = Math.Min(KeyBlock, keys - key);
                float* values = V + ((firstKey + key) * StrideV) + (head * HeadDim);
                PackBlock(in work, K + ((firstKey + key) * StrideK) + (head * HeadDim), values, count);
                for (int row = 0; row < queries;)
                {
                    int rows = Tiles.Next(queries - row);
                    Strip(in work, Q + ((firstQuery + row) * StrideQ) + (head * HeadDim), rows, values, count, key == 0, key + count == keys,
                        max + row, sum + row, output + (row * StrideO));
                    row += rows;
                }
            }
            if (LogSumExp == null) return;
            for (int i = 0; i < queries; i++)
                LogSumExp[((nint)head * TotalQueries) + firstQuery + i] = (max[i] * Scale) + MathF.Log(sum[i]);
        }

        private readonly void PackBlock(in Workspace work, float* keys, float* values, int count)
        {
            for (int j = 0; j < count; j += Tiles.Columns)
                PanelPacking.Transpose(keys + (j * StrideK), StrideK, Math.Min(Tiles.Columns, count - j), HeadDim, work.KeyPanels + ((nint)j * HeadDim));
            if (work.ValuePanels == null) return;
            for (int p = 0; p < work.ValuePanelCount; p++)
                PanelPacking.Copy(values + (p * Tiles.Columns), StrideV, count, Math.Min(Tiles.Columns, HeadDim - (p * Tiles.Columns)),
                    work.ValuePanels + ((nint)p * count * Tiles.Columns));
        }

        private readonly void Strip(in Workspace work, float* q, int rows, float* values, int count, bool first, bool last, float* max, float* sum,
            float* output)
        {
            float* zero = stackalloc float[Tiles.Columns];
            float* shrink = stackalloc float[Tiles.MaxRows];
            new Span<float>(zero, Tiles.Columns).Clear();
            for (int j = 0; j < count; j += Tiles.Columns)
                Tiles.Multiply(rows, q, StrideQ, work.KeyPanels + ((nint)j * HeadDim), Tiles.Columns, HeadDim, work.Scores + j, work.StrideScores, zero);
            SoftmaxStrip.Exponentials(work.Scores, work.StrideScores, rows, count, Factor, max, sum, shrink);
            nint strideValues = work.ValuePanels == null ? StrideV : Tiles.Columns, stridePartial = work.ValuePanelCount * Tiles.Columns;
            for (int p = 0; p < work.ValuePanelCount; p++)
            {
                float* b = work.ValuePanels == null ? values + (p * Tiles.Columns) : work.ValuePanels + ((nint)p * count * Tiles.Columns);
                Tiles.Multiply(rows, work.Scores, work.StrideScores, b, strideValues, count, work.Partial + (p * Tiles.Columns), stridePartial, zero);
            }
            SoftmaxStrip.Merge(work.Partial, stridePartial, rows, HeadDim, first, last, shrink, sum, output, StrideO);
        }
    }

    /// <summary>Pointers into the thread's scratch for one part.</summary>
    private struct Workspace
    {
        public float* KeyPanels;                          // [ceil(block / 32)][headDim][32]
        public float* ValuePanels;                        // [ceil(headDim / 32)][block][32], or null when values are read in place
        public float* Scores;                             // [12][StrideScores]
        public nint StrideScores;
        public float* Partial;                            // [12][ceil(headDim / 32) * 32]
        public int ValuePanelCount;
    }
}
