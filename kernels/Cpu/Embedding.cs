using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The input embedding of BERT: word + position + type, optionally followed by LayerNorm while the row is in the first-level cache. Ids index the tables
/// unchecked: whoever makes the batch has checked them.
/// </summary>
public static unsafe class Embedding
{
    private const int FloatsAPart = 32 << 10;

    /// <summary>y[t] = (word[tokenIds[t]] + position[positionIds[t]]) + type[tokenTypeIds[t]].</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="tokenIds">[tokens].</param>
    /// <param name="positionIds">[tokens].</param>
    /// <param name="tokenTypeIds">[tokens], or null when every token has type 0.</param>
    /// <param name="tokens">Tokens; 0 does nothing.</param>
    /// <param name="word">[vocabulary, hidden], contiguous.</param>
    /// <param name="position">[positions, hidden], contiguous.</param>
    /// <param name="type">[types, hidden], contiguous, or null for a model without token types.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="y">[tokens, hidden], rows <paramref name="ldy"/> floats apart.</param>
    /// <param name="ldy">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, int* tokenIds, int* positionIds, int* tokenTypeIds, int tokens, float* word, float* position, float* type, int hidden,
        float* y, int ldy) =>
        Run(team, tokenIds, positionIds, tokenTypeIds, tokens, word, position, type, hidden, null, null, 0f, y, ldy);

    /// <summary>y[t] = LayerNorm(word + position + type): bit-equal to the sum followed by <see cref="LayerNorm.Forward"/>.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="tokenIds">[tokens].</param>
    /// <param name="positionIds">[tokens].</param>
    /// <param name="tokenTypeIds">[tokens], or null when every token has type 0.</param>
    /// <param name="tokens">Tokens; 0 does nothing.</param>
    /// <param name="word">[vocabulary, hidden], contiguous.</param>
    /// <param name="position">[positions, hidden], contiguous.</param>
    /// <param name="type">[types, hidden], contiguous, or null for a model without token types.</param>
    /// <param name="hidden">Columns, at least 1.</param>
    /// <param name="gamma">[hidden].</param>
    /// <param name="beta">[hidden].</param>
    /// <param name="epsilon">Added to the variance.</param>
    /// <param name="y">[tokens, hidden], rows <paramref name="ldy"/> floats apart.</param>
    /// <param name="ldy">At least hidden.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, int* tokenIds, int* positionIds, int* tokenTypeIds, int tokens, float* word, float* position, float* type, int hidden,
        float* gamma, float* beta, float epsilon, float* y, int ldy)
    {
        ArgumentNullException.ThrowIfNull(gamma);
        ArgumentNullException.ThrowIfNull(beta);
        Run(team, tokenIds, positionIds, tokenTypeIds, tokens, word, position, type, hidden, gamma, beta, epsilon, y, ldy);
    }

    private static void Run(
        WorkerTeam team, int* tokenIds, int* positionIds, int* tokenTypeIds, int tokens, float* word, float* position, float* type, int hidden,
        float* gamma, float* beta, float epsilon, float* y, int ldy)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, hidden);
        EmbeddingJob job = new()
        {
            TokenIds = tokenIds,
            PositionIds = positionIds,
            TokenTypeIds = tokenTypeIds,
            Tokens = tokens,
            Word = word,
            Position = position,
            Type = type,
            Hidden = hidden,
            Gamma = gamma,
            Beta = beta,
            Epsilon = epsilon,
            Y = y,
            StrideY = ldy,
            RowsAPart = Math.Max(1, FloatsAPart / hidden),
        };
        team.Run(ref job, (tokens + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>One part is a range of tokens.</summary>
    private struct EmbeddingJob : ITeamJob
    {
        public int* TokenIds;
        public int* PositionIds;
        public int* TokenTypeIds;
        public int Tokens;
        public float* Word;
        public float* Position;
        public float* Type;
        public int Hidden;
        public float* Gamma;
        public float* Beta;
        public float Epsilon;
        public float* Y;
        public nint StrideY;
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            int first = part * RowsAPart, end = Math.Min(Tokens, first + RowsAPart);
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
            for (int t = first; t < end; t++)
            {
                float* word = Word + ((nint)TokenIds[t] * Hidden);
                float* position = Position + ((nint)PositionIds[t] * Hidden);
                float* type = Type == null ? null : Type + ((nint)(TokenTypeIds == null ? 0 : TokenTypeIds[t]) * Hidden);
                float* y = Y + (t * StrideY);
                int i = 0;
                for (; i <= Hidden - Lanes.Count; i += Lanes.Count)
                {
                    T sum = T.Load(word + i) + T.Load(position + i);
                    T.Store(type == null ? sum : sum + T.Load(type + i), y + i);
                }
                for (; i < Hidden; i++)
                {
                    float sum = word[i] + position[i];
                    y[i] = type == null ? sum : sum + type[i];
                }
                if (Gamma != null) _ = LayerNorm.Row<T>(y, Hidden, Gamma, Beta, Epsilon, y);
            }
        }
    }
}
