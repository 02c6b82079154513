using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The gradients of <see cref="Embedding"/>'s tables: each row of dy is added to the rows it came from. A part owns a range of columns of all tables and
/// takes the tokens in order, so there are no atomics and the number of threads does not show.
/// </summary>
public static unsafe class EmbeddingBackward
{
    private const int FewestColumns = 4 * Lanes.Count;

    /// <summary>dword[tokenIds[t]] += dy[t], dposition[positionIds[t]] += dy[t], dtype[tokenTypeIds[t]] += dy[t].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="tokenIds">[tokens].</param>
    /// <param name="positionIds">[tokens].</param>
    /// <param name="tokenTypeIds">[tokens], or null when every token has type 0.</param>
    /// <param name="tokens">Tokens; 0 does nothing.</param>
    /// <param name="dy">[tokens, hidden], rows <paramref name="lddy"/> floats apart.</param>
    /// <param name="lddy">At least hidden.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="paddingId">The word that gets no gradient (nn.Embedding's padding_idx), or -1 for none.</param>
    /// <param name="paddingPosition">The position that gets no gradient, or -1 for none.</param>
    /// <param name="dword">[vocabulary, hidden], contiguous, or null.</param>
    /// <param name="dposition">[positions, hidden], contiguous, or null.</param>
    /// <param name="dtype">[types, hidden], contiguous, or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Run(
        WorkerTeam team, int* tokenIds, int* positionIds, int* tokenTypeIds, int tokens, float* dy, int lddy, int hidden,
        int paddingId, int paddingPosition, float* dword, float* dposition, float* dtype)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddy, hidden);
        int wanted = team.Threads == 1 ? 1 : 2 * team.Threads;
        int columns = Math.Max(FewestColumns, ((hidden + wanted - 1) / wanted + Lanes.Count - 1) / Lanes.Count * Lanes.Count);
        ScatterJob job = new()
        {
            TokenIds = tokenIds,
            PositionIds = positionIds,
            TokenTypeIds = tokenTypeIds,
            Tokens = tokens,
            Dy = dy,
            StrideDy = lddy,
            Hidden = hidden,
            PaddingId = paddingId,
            PaddingPosition = paddingPosition,
            Dword = dword,
            Dposition = dposition,
            Dtype = dtype,
            ColumnsAPart = columns,
        };
        team.Run(ref job, tokens == 0 ? 0 : (hidden + columns - 1) / columns);
    }

    /// <summary>One part is a range of columns.</summary>
    private struct ScatterJob : ITeamJob
    {
        public int* TokenIds;
        public int* PositionIds;
        public int* TokenTypeIds;
        public int Tokens;
        public float* Dy;
        public nint StrideDy;
        public int Hidden;
        public int PaddingId;
        public int PaddingPosition;
        public float* Dword;
        public float* Dposition;
        public float* Dtype;
        public int ColumnsAPart;

        public readonly void Execute(int part, int worker)
        {
            int first = part * ColumnsAPart, columns = Math.Min(ColumnsAPart, Hidden - first);
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Range<Lanes512>(first, columns); break;
                case VectorWidth.Bits256: Range<Lanes256>(first, columns); break;
                default: Range<Lanes128>(first, columns); break;
            }
        }

        private readonly void Range<T>(int first, int columns) where T : unmanaged, ILanes<T>
        {
            for (int t = 0; t < Tokens; t++)
            {
                float* dy = Dy + (t * StrideDy) + first;
                if (Dword != null && TokenIds[t] != PaddingId) Add<T>(dy, Dword + ((nint)TokenIds[t] * Hidden) + first, columns);
                if (Dposition != null && PositionIds[t] != PaddingPosition) Add<T>(dy, Dposition + ((nint)PositionIds[t] * Hidden) + first, columns);
                if (Dtype != null) Add<T>(dy, Dtype + ((nint)(TokenTypeIds == null ? 0 : TokenTypeIds[t]) * Hidden) + first, columns);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Add<T>(float* x, float* sum, int count) where T : unmanaged, ILanes<T>
        {
            int i = 0;
            for (; i <= count - Lanes.Count; i += Lanes.Count) T.Store(T.Load(sum + i) + T.Load(x + i), sum + i);
            for (; i < count; i++) sum[i] += x[i];
        }
    }
}
