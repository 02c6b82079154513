using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Layer normalisation (Ba, Kiros and Hinton, arXiv:1607.06450): y = (x - mean) / sqrt(variance + epsilon) * gamma + beta with the biased variance. The
/// row stays in the first-level cache while it is read for the mean, for the squared deviations from it (no cancellation) and for the result. All sums
/// are fp32 in the fixed order of <see cref="RowReductions"/>, so a row's result depends on nothing but the row.
/// </summary>
public static unsafe class LayerNorm
{
    private const int FloatsAPart = 32 << 10;

    /// <summary>y = LayerNorm(x), row by row.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, hidden], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least hidden.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="gamma">[hidden].</param>
    /// <param name="beta">[hidden].</param>
    /// <param name="epsilon">Added to the variance.</param>
    /// <param name="y">[rows, hidden]; may be x.</param>
    /// <param name="ldy">At least hidden.</param>
    /// <param name="mean">[rows], or null.</param>
    /// <param name="rstd">[rows]: 1 / sqrt(variance + epsilon), or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, float* x, int ldx, int rows, int hidden, float* gamma, float* beta, float epsilon, float* y, int ldy, float* mean, float* rstd) =>
        Run(team, x, ldx, null, 0, rows, hidden, gamma, beta, epsilon, null, 0, y, ldy, mean, rstd);

    /// <summary>y = LayerNorm(x + residual), row by row; the sum is optionally kept.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, hidden], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least hidden.</param>
    /// <param name="residual">[rows, hidden].</param>
    /// <param name="ldResidual">At least hidden.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="gamma">[hidden].</param>
    /// <param name="beta">[hidden].</param>
    /// <param name="epsilon">Added to the variance.</param>
    /// <param name="sum">[rows, hidden] receives x + residual, or null; may be x or the residual.</param>
    /// <param name="ldSum">At least hidden when the sum is kept.</param>
    /// <param name="y">[rows, hidden]; may be x, the residual or the sum (which is then overwritten).</param>
    /// <param name="ldy">At least hidden.</param>
    /// <param name="mean">[rows], or null.</param>
    /// <param name="rstd">[rows], or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void AddForward(
        WorkerTeam team, float* x, int ldx, float* residual, int ldResidual, int rows, int hidden, float* gamma, float* beta, float epsilon,
        float* sum, int ldSum, float* y, int ldy, float* mean, float* rstd)
    {
        ArgumentNullException.ThrowIfNull(residual);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldResidual, hidden);
        if (sum != null) ArgumentOutOfRangeException.ThrowIfLessThan(ldSum, hidden);
        Run(team, x, ldx, residual, ldResidual, rows, hidden, gamma, beta, epsilon, sum, ldSum, y, ldy, mean, rstd);
    }

    private static void Run(
        WorkerTeam team, float* x, int ldx, float* residual, int ldResidual, int rows, int hidden, float* gamma, float* beta, float epsilon,
        float* sum, int ldSum, float* y, int ldy, float* mean, float* rstd)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, hidden);
        NormJob job = new()
        {
            X = x,
            StrideX = ldx,
            Residual = residual,
            StrideResidual = ldResidual,
            Rows = rows,
            Hidden = hidden,
            Gamma = gamma,
            Beta = beta,
            Epsilon = epsilon,
            Sum = sum,
            StrideSum = ldSum,
            Y = y,
            StrideY = ldy,
            Mean = mean,
            Rstd = rstd,
            RowsAPart = Math.Max(1, FloatsAPart / hidden),
        };
        team.Run(ref job, (rows + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>Normalises one row; returns its mean and 1 / sqrt(variance + epsilon). x and y may be the same row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (float Mean, float Rstd) Row<T>(float* x, int hidden, float* gamma, float* beta, float epsilon, float* y) where T : unmanaged, ILanes<T>
    {
        float mean = RowReductions.Sum<T>(x, hidden) / hidden;
        float variance = RowReductions.SquaredDeviations<T>(x, hidden, mean) / hidden;
        float rstd = 1f / MathF.Sqrt(variance + epsilon);
        T center = T.Create(mean), scale = T.Create(rstd);
        int i = 0;
        for (; i <= hidden - Lanes.Count; i += Lanes.Count)
            T.Store(T.MultiplyAdd((T.Load(x + i) - center) * scale, T.Load(gamma + i), T.Load(beta + i)), y + i);
        for (; i < hidden; i++)
            y[i] = VectorUnit.MultiplyAdd((x[i] - mean) * rstd, gamma[i], beta[i]);
        return (mean, rstd);
    }

    /// <summary>One part is a range of rows.</summary>
    private struct NormJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public float* Residual;
        public nint StrideResidual;
        public int Rows;
        public int Hidden;
        public float* Gamma;
        public float* Beta;
        public float Epsilon;
        public float* Sum;
        public nint StrideSum;
        public float* Y;
        public nint StrideY;
        public float* Mean;
        public float* Rstd;
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            int first = part * RowsAPart, end = Math.Min(Rows, first + RowsAPart);
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Range<Lanes512>(first, end); break;
                case VectorWidth.Bits256: Range<Lanes256>(first, end); break;
                default: Range<Lanes128>(first, end); break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Range<T>(int first, int end) where T : unmanaged, ILanes<T>
        {
            for (int row = first; row < end; row++)
            {
                float* x = X + (row * StrideX);
                float* y = Y + (row * StrideY);
                if (Residual != null)
                {
                    float* sum = Sum == null ? y : Sum + (row * StrideSum);
                    Add<T>(x, Residual + (row * StrideResidual), sum, Hidden);
                    x = sum;
                }
                (float mean, float rstd) = Row<T>(x, Hidden, Gamma, Beta, Epsilon, y);
                if (Mean != null) Mean[row] = mean;
                if (Rstd != null) Rstd[row] = rstd;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Add<T>(float* a, float* b, float* sum, int count) where T : unmanaged, ILanes<T>
        {
            int i = 0;
            for (; i <= count - Lanes.Count; i += Lanes.Count) T.Store(T.Load(a + i) + T.Load(b + i), sum + i);
            for (; i < count; i++) sum[i] = a[i] + b[i];
        }
    }
}
