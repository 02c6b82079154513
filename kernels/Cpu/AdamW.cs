using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// AdamW (Loshchilov and Hutter, arXiv:1711.05101) in the order of operations of torch.optim.AdamW, one read and one write of weight and moments.
/// </summary>
public static unsafe class AdamW
{
    private const int FloatsAPart = 16 << 10;

    /// <summary>
    /// For i in start..start + count, with g = grad * gradScale: p *= 1 - lr * weightDecay; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2;
    /// p -= lr / biasCorrection1 * m / (sqrt(v) / sqrt(biasCorrection2) + epsilon). Constants are doubles, rounded to float once, as PyTorch does.
    /// </summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="master">Weights.</param>
    /// <param name="grad">Gradients; read only.</param>
    /// <param name="m">First moments.</param>
    /// <param name="v">Second moments.</param>
    /// <param name="start">The first element.</param>
    /// <param name="count">Elements; 0 does nothing.</param>
    /// <param name="lr">Learning rate of this step.</param>
    /// <param name="beta1">Decay of the first moment.</param>
    /// <param name="beta2">Decay of the second moment.</param>
    /// <param name="epsilon">Added to the root.</param>
    /// <param name="weightDecay">Decoupled decay; 0 for biases and LayerNorm.</param>
    /// <param name="biasCorrection1">1 - beta1^step, steps counted from 1.</param>
    /// <param name="biasCorrection2">1 - beta2^step.</param>
    /// <param name="gradScale">Clipping and loss scale in one factor.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is negative.</exception>
    public static void Step(
        WorkerTeam team, float* master, float* grad, float* m, float* v, long start, long count, double lr, double beta1, double beta2, double epsilon,
        double weightDecay, double biasCorrection1, double biasCorrection2, float gradScale)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        StepJob job = new()
        {
            P = master + start,
            G = grad + start,
            M = m + start,
            V = v + start,
            Count = count,
            Keep = (float)(1 - (lr * weightDecay)),
            Weight1 = (float)(1 - beta1),
            Beta2 = (float)beta2,
            Weight2 = (float)(1 - beta2),
            Epsilon = (float)epsilon,
            Step = (float)-(lr / biasCorrection1),
            Root2 = (float)Math.Sqrt(biasCorrection2),
            Scale = gradScale,
        };
        team.Run(ref job, checked((int)((count + FloatsAPart - 1) / FloatsAPart)));
    }

    /// <summary>One part is a range of elements.</summary>
    private struct StepJob : ITeamJob
    {
        public float* P;
        public float* G;
        public float* M;
        public float* V;
        public long Count;
        public float Keep;
        public float Weight1;
        public float Beta2;
        public float Weight2;
        public float Epsilon;
        public float Step;
        public float Root2;
        public float Scale;

        public readonly void Execute(int part, int worker)
        {
            long first = (long)part * FloatsAPart;
            int count = (int)Math.Min(FloatsAPart, Count - first);
            switch (VectorUnit.Width)
            {
                case VectorWidth.Bits512: Range<Lanes512>(first, count); break;
                case VectorWidth.Bits256: Range<Lanes256>(first, count); break;
                default: Range<Lanes128>(first, count); break;
            }
        }

        private readonly void Range<T>(long first, int count) where T : unmanaged, ILanes<T>
        {
            int whole = count / Lanes.Count * Lanes.Count, rest = count - whole;
            Update<T>(P + first, G + first, M + first, V + first, whole);
            if (rest == 0) return;
            first += whole;
            float* block = stackalloc float[4 * Lanes.Count];                // the tail as a block of its own, through the same instructions
            float* g = block + Lanes.Count, m = g + Lanes.Count, v = m + Lanes.Count;
            new Span<float>(block, 4 * Lanes.Count).Clear();
            Copy(P + first, block, rest);
            Copy(G + first, g, rest);
            Copy(M + first, m, rest);
            Copy(V + first, v, rest);
            Update<T>(block, g, m, v, Lanes.Count);
            Copy(block, P + first, rest);
            Copy(m, M + first, rest);
            Copy(v, V + first, rest);
        }

        private static void Copy(float* from, float* to, int count) => new Span<float>(from, count).CopyTo(new Span<float>(to, count));

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Update<T>(float* p, float* grad, float* moment1, float* moment2, int count) where T : unmanaged, ILanes<T>
        {
            T keep = T.Create(Keep), weight1 = T.Create(Weight1), beta2 = T.Create(Beta2), weight2 = T.Create(Weight2);
            T epsilon = T.Create(Epsilon), step = T.Create(Step), root2 = T.Create(Root2), scale = T.Create(Scale);
            for (int i = 0; i < count; i += Lanes.Count)
            {
                T g = T.Load(grad + i) * scale, m = T.Load(moment1 + i), v = T.Load(moment2 + i);
                m = T.MultiplyAdd(weight1, g - m, m);
                v = T.MultiplyAdd(weight2 * g, g, v * beta2);
                T root = (T.SquareRoot(v) / root2) + epsilon;
                T.Store(T.MultiplyAdd(T.Load(p + i), keep, step * m / root), p + i);
                T.Store(m, moment1 + i);
                T.Store(v, moment2 + i);
            }
        }
    }
}
