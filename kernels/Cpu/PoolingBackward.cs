using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>The gradients of <see cref="Pooling"/>, added to what dx holds: rows without a gradient keep their content.</summary>
public static unsafe class PoolingBackward
{
    /// <summary>dx[cuSeqlens[b]] += dy[b].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="dy">[sequences, hidden], rows <paramref name="lddy"/> floats apart.</param>
    /// <param name="lddy">At least hidden.</param>
    /// <param name="cuSeqlens">[sequences + 1], ascending; no sequence is empty.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="dx">[tokens, hidden], added to.</param>
    /// <param name="lddx">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Cls(WorkerTeam team, float* dy, int lddy, int* cuSeqlens, int sequences, int hidden, float* dx, int lddx) =>
        Run(team, dy, lddy, cuSeqlens, sequences, hidden, dx, lddx, mean: false);

    /// <summary>dx[t] += dy[b] / length of b for every token t of sequence b.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="dy">[sequences, hidden], rows <paramref name="lddy"/> floats apart.</param>
    /// <param name="lddy">At least hidden.</param>
    /// <param name="cuSeqlens">[sequences + 1], ascending.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="dx">[tokens, hidden], added to.</param>
    /// <param name="lddx">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Mean(WorkerTeam team, float* dy, int lddy, int* cuSeqlens, int sequences, int hidden, float* dx, int lddx) =>
        Run(team, dy, lddy, cuSeqlens, sequences, hidden, dx, lddx, mean: true);

    private static void Run(WorkerTeam team, float* dy, int lddy, int* cuSeqlens, int sequences, int hidden, float* dx, int lddx, bool mean)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(sequences);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddx, hidden);
        SpreadJob job = new() { Dy = dy, StrideDy = lddy, CuSeqlens = cuSeqlens, Hidden = hidden, Dx = dx, StrideDx = lddx, Mean = mean };
        team.Run(ref job, sequences);
    }

    /// <summary>One part is one sequence.</summary>
    private struct SpreadJob : ITeamJob
    {
        public float* Dy;
        public nint StrideDy;
        public int* CuSeqlens;
        public int Hidden;
        public float* Dx;
        public nint StrideDx;
        public bool Mean;

        public readonly void Execute(int part, int worker)
        {
            int first = CuSeqlens[part], rows = CuSeqlens[part + 1] - first;
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Spread<Lanes512>(part, first, rows); break;
                case VectorWidth.Bits256: Spread<Lanes256>(part, first, rows); break;
                default: Spread<Lanes128>(part, first, rows); break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Spread<T>(int sequence, int first, int rows) where T : unmanaged, ILanes<T>
        {
            float* dy = Dy + (sequence * StrideDy);
            float count = Mean ? rows : 1f;
            T divisor = T.Create(count);
            for (int r = 0; r < (Mean ? rows : 1); r++)
            {
                float* dx = Dx + ((first + r) * StrideDx);
                int i = 0;
                for (; i <= Hidden - Lanes.Count; i += Lanes.Count) T.Store(T.Load(dx + i) + (T.Load(dy + i) / divisor), dx + i);
                for (; i < Hidden; i++) dx[i] += dy[i] / count;
            }
        }
    }
}
