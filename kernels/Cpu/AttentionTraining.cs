using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Attention with dropout on the probabilities (after the softmax, so that rows no longer sum to 1), in the blocking of <see cref="Attention"/>. The mask
/// of <see cref="DropoutMask"/> has the query's row in the batch, the key's place in its sequence, and the head as stream.
/// </summary>
public static unsafe class AttentionTraining
{
    private const int KeyBlock = 512;

    /// <summary>output = dropout(softmax(q k^T * scale)) v; without dropout, <see cref="Attention.Forward"/>.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, numHeads * headDim], rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least numHeads * headDim.</param>
    /// <param name="k">[keys, numHeads * headDim].</param>
    /// <param name="ldk">At least numHeads * headDim.</param>
    /// <param name="v">[keys, numHeads * headDim].</param>
    /// <param name="ldv">At least numHeads * headDim.</param>
    /// <param name="cuSeqlensQ">[sequences + 1].</param>
    /// <param name="cuSeqlensK">[sequences + 1].</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="numHeads">Heads, at least 1.</param>
    /// <param name="headDim">Columns of a head, at least 1.</param>
    /// <param name="scale">Positive; usually 1 / sqrt(headDim).</param>
    /// <param name="output">[queries, numHeads * headDim]; must not overlap the inputs. Queries of a sequence without keys get 0.</param>
    /// <param name="ldo">At least numHeads * headDim.</param>
    /// <param name="logSumExp">[numHeads, cuSeqlensQ[sequences]]: of the scores before dropout.</param>
    /// <param name="dropout">The probability that an element is dropped, in [0, 1).</param>
    /// <param name="seed">Decides the mask together with head, query row and key.</param>
    /// <param name="firstQuery">The mask's row for query row 0: part of a batch then gets what the whole batch would give it.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, int* cuSeqlensQ, int* cuSeqlensK, int sequences,
        int numHeads, int headDim, float scale, float* output, int ldo, float* logSumExp, float dropout, ulong seed,
        int firstQuery = 0)
    {
        DropoutMask.Check(dropout);
        ArgumentNullException.ThrowIfNull(logSumExp);
        if (dropout == 0f)
        {
            Attention.Forward(team, q, ldq, k, ldk, v, ldv, cuSeqlensQ, cuSeqlensK, sequences, numHeads, headDim, scale, output, ldo, logSumExp);
            return;
        }
        Run(team, q, ldq, k, ldk, v, ldv, cuSeqlensQ, cuSeqlensK, sequences, numHeads, headDim, scale, output, ldo, logSumExp, dropout, seed, firstQuery, null, null);
    }

    /// <summary>The same, with the bits of <see cref="MaskedAttention"/> where <paramref name="visible"/> is not null.</summary>
    internal static void Run(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, int* cuSeqlensQ, int* cuSeqlensK, int sequences,
        int numHeads, int headDim, float scale, float* output, int ldo, float* logSumExp, float dropout, ulong seed, int firstQuery,
        ulong* visible, int* visibleStarts)
    {
        DropoutMask.Check(dropout);
        ArgumentNullException.ThrowIfNull(logSumExp);
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(sequences);
        ArgumentOutOfRangeException.ThrowIfLessThan(numHeads, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(headDim, 1);
        if (!(scale > 0f) || !float.IsFinite(scale)) throw new ArgumentOutOfRangeException(nameof(scale), scale, "the scale must be positive and finite");
        int width = checked(numHeads * headDim);
        foreach (int stride in (ReadOnlySpan<int>)[ldq, ldk, ldv, ldo]) ArgumentOutOfRangeException.ThrowIfLessThan(stride, width);
        DropoutJob job = new()
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
            Scale = scale,
            Output = output,
            StrideO = ldo,
            LogSumExp = logSumExp,
            Dropout = dropout,
            Seed = seed,
            FirstQuery = firstQuery,
            Visible = visible,
            VisibleStarts = visibleStarts,
            TotalQueries = sequences == 0 ? 0 : cuSeqlensQ[sequences],
        };
        team.Run(ref job, checked(sequences * numHeads));
    }

    /// <summary>One part is one head of one sequence.</summary>
    private struct DropoutJob : ITeamJob
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
        public float Scale;
        public float* Output;
        public nint StrideO;
        public float* LogSumExp;
        public float Dropout;
        public ulong Seed;
        public int FirstQuery;
        public ulong* Visible;
        public int* VisibleStarts;
        public int TotalQueries;

        public readonly void Execute(int part, int worker)
        {
            int head = part % NumHeads, sequence = part / NumHeads;
            int firstQuery = CuSeqlensQ[sequence], queries = CuSeqlensQ[sequence + 1] - firstQuery;
            int firstKey = CuSeqlensK[sequence], keys = CuSeqlensK[sequence + 1] - firstKey;
            float* log = LogSumExp + ((nint)head * TotalQueries) + firstQuery;
            if (keys == 0)
            {
                for (int i = 0; i < queries; i++) new Span<float>(Output + ((firstQuery + i) * StrideO) + (head * HeadDim), HeadDim).Clear();
                new Span<float>(log, queries).Fill(float.NegativeInfinity);
                return;
            }
            int block = Math.Min((keys + Tiles.Columns - 1) / Tiles.Columns * Tiles.Columns, KeyBlock), panels = (HeadDim + Tiles.Columns - 1) / Tiles.Columns;
            nint stride = block + 16, stridePartial = panels * Tiles.Columns;
            float* keyPanels = ThreadScratch.Floats(((nint)block * HeadDim) + (block * stridePartial) + ((Tiles.MaxRows + 1) * stride) + (Tiles.MaxRows * stridePartial) + (2 * queries));
            Workspace work = new() { KeyPanels = keyPanels, ValuePanels = keyPanels + ((nint)block * HeadDim), Stride = stride, Panels = panels, StridePartial = stridePartial };
            work.Scores = work.ValuePanels + (block * stridePartial);
            work.Mask = work.Scores + (Tiles.MaxRows * stride);
            work.Partial = work.Mask + stride;
            float* max = work.Partial + (Tiles.MaxRows * stridePartial), sum = max + queries;
            new Span<float>(max, queries).Fill(float.NegativeInfinity);
            new Span<float>(sum, queries).Clear();
            work.Visible = Visible == null ? null : Visible + VisibleStarts[sequence];
            work.VisibleWords = VisibleBits.Words(keys);
            for (int key = 0; key < keys; key += block)
            {
                int count = Math.Min(block, keys - key);
                Pack(in work, firstKey + key, count, head);
                for (int row = 0; row < queries; row += Tiles.MaxRows)
                    Strip(in work, firstQuery, row, Math.Min(Tiles.MaxRows, queries - row), key, count, head, key + count == keys, max + row, sum + row);
            }
            for (int i = 0; i < queries; i++)
            {
                log[i] = (max[i] * Scale) + MathF.Log(sum[i]);
                if (work.Visible == null || !(max[i] <= VisibleBits.Hidden)) continue;
                log[i] = float.PositiveInfinity;
                new Span<float>(Output + ((firstQuery + i) * StrideO) + (head * HeadDim), HeadDim).Clear();
            }
        }

        private readonly void Pack(in Workspace work, int first, int count, int head)
        {
            float* keys = K + (first * StrideK) + (head * HeadDim);
            float* values = V + (first * StrideV) + (head * HeadDim);
            for (int j = 0; j < count; j += Tiles.Columns)
                PanelPacking.Transpose(keys + (j * StrideK), StrideK, Math.Min(Tiles.Columns, count - j), HeadDim, work.KeyPanels + ((nint)j * HeadDim));
            for (int p = 0; p < work.Panels; p++)
                PanelPacking.Copy(values + (p * Tiles.Columns), StrideV, count, Math.Min(Tiles.Columns, HeadDim - (p * Tiles.Columns)),
                    work.ValuePanels + ((nint)p * count * Tiles.Columns));
        }

        private readonly void Strip(in Workspace work, int firstQuery, int row, int rows, int key, int count, int head, bool last, float* max, float* sum)
        {
            float* zero = stackalloc float[Tiles.Columns];
            float* shrink = stackalloc float[Tiles.MaxRows];
            int query = firstQuery + row;
            new Span<float>(zero, Tiles.Columns).Clear();
            float* q = Q + (query * StrideQ) + (head * HeadDim);
            for (int j = 0; j < count; j += Tiles.Columns)
                Tiles.Multiply(rows, q, StrideQ, work.KeyPanels + ((nint)j * HeadDim), Tiles.Columns, HeadDim, work.Scores + j, work.Stride, zero);
            for (int r = 0; r < rows && work.Visible != null; r++)
                VisibleBits.Hide(work.Scores + (r * work.Stride), count, work.Visible + ((nint)(row + r) * work.VisibleWords) + (key / 64));
            SoftmaxStrip.Exponentials(work.Scores, work.Stride, rows, count, Scale * VectorMath.Log2E, max, sum, shrink);
            DropoutMask mask = new(Dropout, Seed, (uint)head, FirstQuery);
            for (int r = 0; r < rows && Dropout > 0f; r++)
            {
                float* scores = work.Scores + (r * work.Stride);
                mask.Row((uint)(query + r), (uint)key, count, work.Mask);
                LanePairs.Row<ProductPair>(scores, work.Mask, scores, count);
            }
            for (int p = 0; p < work.Panels; p++)
                Tiles.Multiply(rows, work.Scores, work.Stride, work.ValuePanels + ((nint)p * count * Tiles.Columns), Tiles.Columns, count,
                    work.Partial + (p * Tiles.Columns), work.StridePartial, zero);
            SoftmaxStrip.Merge(work.Partial, work.StridePartial, rows, HeadDim, key == 0, last, shrink, sum, Output + (query * StrideO) + (head * HeadDim), StrideO);
        }
    }

    /// <summary>Pointers into the thread's scratch for one part.</summary>
    private struct Workspace
    {
        public float* KeyPanels;                          // [ceil(block / 32)][headDim][32]
        public float* ValuePanels;                        // [ceil(headDim / 32)][block][32]
        public float* Scores;                             // [12][Stride]
        public float* Mask;                               // [Stride]
        public float* Partial;                            // [12][StridePartial]
        public ulong* Visible;                            // the sequence's bits, or null when all keys are visible
        public int VisibleWords;                          // a row
        public nint Stride;
        public nint StridePartial;
        public int Panels;
    }
}
