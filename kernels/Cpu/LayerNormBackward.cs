using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradients of <see cref="LayerNorm"/>. With xhat = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),
/// dgamma = sum dy * xhat, dbeta = sum dy. Rows are taken in chunks whose size depends on the number of rows only; a chunk adds up its share of dgamma
/// and dbeta, and the chunks are added in order, so the number of threads does not show. dy and x are read once from memory.
/// </summary>
public static unsafe class LayerNormBackward
{
    private const int MostChunks = 64;
    private const int FewestRows = 16;

    /// <summary>dx (stored or added), dgamma and dbeta (added) from dy.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, hidden]: what was normalised (for LayerNorm(x + residual) the sum).</param>
    /// <param name="ldx">At least hidden.</param>
    /// <param name="dy">[rows, hidden].</param>
    /// <param name="lddy">At least hidden.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="gamma">[hidden].</param>
    /// <param name="mean">[rows], from the forward pass.</param>
    /// <param name="rstd">[rows], from the forward pass.</param>
    /// <param name="dx">[rows, hidden]; may be dy, or x when it is stored. The gradient of both x and residual for LayerNorm(x + residual).</param>
    /// <param name="lddx">At least hidden.</param>
    /// <param name="accumulateDx">Adds to dx instead of storing.</param>
    /// <param name="dgamma">[hidden], added to.</param>
    /// <param name="dbeta">[hidden], added to.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Run(
        WorkerTeam team, float* x, int ldx, float* dy, int lddy, int rows, int hidden, float* gamma, float* mean, float* rstd,
        float* dx, int lddx, bool accumulateDx, float* dgamma, float* dbeta)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddx, hidden);
        if (rows == 0) return;
        int rowsAPart = Math.Max(FewestRows, (rows + MostChunks - 1) / MostChunks), chunks = (rows + rowsAPart - 1) / rowsAPart;
        float* partial = ThreadScratch.RunFloats(2L * chunks * hidden);
        BackwardJob job = new()
        {
            X = x,
            StrideX = ldx,
            Dy = dy,
            StrideDy = lddy,
            Rows = rows,
            Hidden = hidden,
            Gamma = gamma,
            Mean = mean,
            Rstd = rstd,
            Dx = dx,
            StrideDx = lddx,
            Accumulate = accumulateDx,
            Partial = partial,
            RowsAPart = rowsAPart,
        };
        team.Run(ref job, chunks);
        ColumnSums.Add(partial, 2 * (nint)hidden, chunks, hidden, dgamma);
        ColumnSums.Add(partial + hidden, 2 * (nint)hidden, chunks, hidden, dbeta);
    }

    /// <summary>One part is a chunk of rows.</summary>
    private struct BackwardJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public float* Dy;
        public nint StrideDy;
        public int Rows;
        public int Hidden;
        public float* Gamma;
        public float* Mean;
        public float* Rstd;
        public float* Dx;
        public nint StrideDx;
        public bool Accumulate;
        public float* Partial;                            // [chunks][2][hidden]
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            int first = part * RowsAPart, end = Math.Min(Rows, first + RowsAPart);
            float* dgamma = Partial + (2 * (nint)part * Hidden);
            new Span<float>(dgamma, 2 * Hidden).Clear();
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Range<Lanes512>(first, end, dgamma); break;
                case VectorWidth.Bits256: Range<Lanes256>(first, end, dgamma); break;
                default: Range<Lanes128>(first, end, dgamma); break;
            }
        }

        private readonly void Range<T>(int first, int end, float* dgamma) where T : unmanaged, ILanes<T>
        {
            for (int row = first; row < end; row++)
            {
                float* x = X + (row * StrideX);
                float* dy = Dy + (row * StrideDy);
                (float sum, float dot) = Sums<T>(x, dy, Gamma, Hidden, Mean[row], Rstd[row]);
                Row<T>(x, dy, Mean[row], Rstd[row], sum / Hidden, dot / Hidden, Dx + (row * StrideDx), dgamma, dgamma + Hidden);
            }
        }

        // The sums of g and of g * xhat over the row.
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static (float Sum, float Dot) Sums<T>(float* x, float* dy, float* gamma, int hidden, float mean, float rstd) where T : unmanaged, ILanes<T>
        {
            T sum = T.Create(0f), dot = sum, center = T.Create(mean), scale = T.Create(rstd);
            int whole = hidden / Lanes.Count * Lanes.Count;
            if (whole < hidden)                           // first, because a call while the sums are live would make them live in memory
            {
                T g = Lanes.LoadPart<T>(dy + whole, hidden - whole, 0f) * Lanes.LoadPart<T>(gamma + whole, hidden - whole, 0f);
                sum = g;
                dot = g * ((Lanes.LoadPart<T>(x + whole, hidden - whole, mean) - center) * scale);
            }
            for (int i = 0; i < whole; i += Lanes.Count)
            {
                T g = T.Load(dy + i) * T.Load(gamma + i);
                sum += g;
                dot = T.MultiplyAdd(g, (T.Load(x + i) - center) * scale, dot);
            }
            return (T.Sum(sum), T.Sum(dot));
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Row<T>(float* x, float* dy, float mean, float rstd, float sum, float dot, float* dx, float* dgamma, float* dbeta)
            where T : unmanaged, ILanes<T>
        {
            T center = T.Create(mean), scale = T.Create(rstd), offset = T.Create(sum), slope = T.Create(dot);
            int i = 0;
            for (; i <= Hidden - Lanes.Count; i += Lanes.Count)
            {
                T gradient = T.Load(dy + i), normal = (T.Load(x + i) - center) * scale;
                T d = scale * ((gradient * T.Load(Gamma + i)) - offset - (normal * slope));
                T.Store(T.MultiplyAdd(gradient, normal, T.Load(dgamma + i)), dgamma + i);
                T.Store(T.Load(dbeta + i) + gradient, dbeta + i);
                T.Store(Accumulate ? T.Load(dx + i) + d : d, dx + i);
            }
            for (; i < Hidden; i++)
            {
                float gradient = dy[i], normal = (x[i] - mean) * rstd;
                float d = rstd * ((gradient * Gamma[i]) - sum - (normal * dot));
                dgamma[i] = VectorUnit.MultiplyAdd(gradient, normal, dgamma[i]);
                dbeta[i] += gradient;
                dx[i] = Accumulate ? dx[i] + d : d;
            }
        }
    }
}
