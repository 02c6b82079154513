using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>From token rows to one row a text. Sequence b owns rows cuSeqlens[b]..cuSeqlens[b + 1] of the packed batch.</summary>
public static unsafe class Pooling
{
    /// <summary>y[b] = x[cuSeqlens[b]]: the row of the first token.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[tokens, hidden], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least hidden.</param>
    /// <param name="cuSeqlens">[sequences + 1], ascending; no sequence is empty.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="y">[sequences, hidden]; must not overlap x.</param>
    /// <param name="ldy">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Cls(WorkerTeam team, float* x, int ldx, int* cuSeqlens, int sequences, int hidden, float* y, int ldy) =>
        Run(team, x, ldx, cuSeqlens, sequences, hidden, y, ldy, mean: false);

    /// <summary>y[b] = the mean of the rows of sequence b, added up in their order in fp32; 0 for an empty sequence.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[tokens, hidden], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least hidden.</param>
    /// <param name="cuSeqlens">[sequences + 1], ascending.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="y">[sequences, hidden]; must not overlap x.</param>
    /// <param name="ldy">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Mean(WorkerTeam team, float* x, int ldx, int* cuSeqlens, int sequences, int hidden, float* y, int ldy) =>
        Run(team, x, ldx, cuSeqlens, sequences, hidden, y, ldy, mean: true);

    private static void Run(WorkerTeam team, float* x, int ldx, int* cuSeqlens, int sequences, int hidden, float* y, int ldy, bool mean)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(sequences);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, hidden);
        PoolingJob job = new() { X = x, StrideX = ldx, CuSeqlens = cuSeqlens, Hidden = hidden, Y = y, StrideY = ldy, Mean = mean };
        team.Run(ref job, sequences);
    }

    /// <summary>One part is one sequence.</summary>
    private struct PoolingJob : ITeamJob
    {
        public float* X;
        public nint StrideX;
        public int* CuSeqlens;
        public int Hidden;
        public float* Y;
        public nint StrideY;
        public bool Mean;

        public readonly void Execute(int part, int worker)
        {
            float* first = X + (CuSeqlens[part] * StrideX);
            float* y = Y + (part * StrideY);
            if (!Mean)
            {
                new Span<float>(first, Hidden).CopyTo(new Span<float>(y, Hidden));
                return;
            }
            int rows = CuSeqlens[part + 1] - CuSeqlens[part];
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Average<Lanes512>(first, rows, y); break;
                case VectorWidth.Bits256: Average<Lanes256>(first, rows, y); break;
                default: Average<Lanes128>(first, rows, y); break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Average<T>(float* x, int rows, float* y) where T : unmanaged, ILanes<T>
        {
            new Span<float>(y, Hidden).Clear();
            for (int r = 0; r < rows; r++, x += StrideX)
            {
                int i = 0;
                for (; i <= Hidden - Lanes.Count; i += Lanes.Count) T.Store(T.Load(y + i) + T.Load(x + i), y + i);
                for (; i < Hidden; i++) y[i] += x[i];
            }
            float count = Math.Max(rows, 1);
            for (int i = 0; i < Hidden; i++) y[i] /= count;
        }
    }
}
