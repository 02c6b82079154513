using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>Passes over all gradients: their norm, whether they are finite, and scaling.</summary>
public static unsafe class GlobalNorm
{
    private const int FloatsAPart = 64 << 10;

    private enum Pass
    {
        Squares,
        Finite,
        Scale,
    }

    /// <summary>The sum of x[i]^2 in double precision (a float's square is exact there), in chunks of 64 Ki elements that are added in order.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The count is negative.</exception>
    public static double SumOfSquares(WorkerTeam team, float* x, long count)
    {
        int parts = Parts(team, count);
        double* sums = (double*)ThreadScratch.RunFloats(2L * parts);
        PassJob job = new() { Pass = Pass.Squares, X = x, Count = count, Sums = sums };
        team.Run(ref job, parts);
        double sum = 0;
        for (int i = 0; i < parts; i++) sum += sums[i];
        return sum;
    }

    /// <summary>Whether no element is infinite or NaN.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The count is negative.</exception>
    public static bool AllFinite(WorkerTeam team, float* x, long count)
    {
        int parts = Parts(team, count);
        double* sums = (double*)ThreadScratch.RunFloats(2L * parts);
        PassJob job = new() { Pass = Pass.Finite, X = x, Count = count, Sums = sums };
        team.Run(ref job, parts);
        for (int i = 0; i < parts; i++)
            if (sums[i] != 0) return false;
        return true;
    }

    /// <summary>x[i] *= factor.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The count is negative.</exception>
    public static void Scale(WorkerTeam team, float* x, long count, float factor)
    {
        PassJob job = new() { Pass = Pass.Scale, X = x, Count = count, Factor = factor };
        team.Run(ref job, Parts(team, count));
    }

    private static int Parts(WorkerTeam team, long count)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        return checked((int)((count + FloatsAPart - 1) / FloatsAPart));
    }

    /// <summary>One part is a chunk.</summary>
    private struct PassJob : ITeamJob
    {
        public Pass Pass;
        public float* X;
        public long Count;
        public float Factor;
        public double* Sums;

        public readonly void Execute(int part, int worker)
        {
            float* x = X + ((long)part * FloatsAPart);
            int count = (int)Math.Min(FloatsAPart, Count - ((long)part * FloatsAPart));
            switch (Pass)
            {
                case Pass.Squares: Sums[part] = Squares(x, count); break;
                case Pass.Finite: Sums[part] = Zero(x, count); break;
                default: Elementwise.Scale(x, Factor, count); break;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static double Squares(float* x, int count)
        {
            Vector256<double> a = default, b = default, c = default, d = default;
            int i = 0;
            for (; i <= count - 16; i += 16)
            {
                (Vector256<double> u, Vector256<double> v) = Vector256.Widen(Vector256.Load(x + i));
                (Vector256<double> s, Vector256<double> t) = Vector256.Widen(Vector256.Load(x + i + 8));
                a += u * u;
                b += v * v;
                c += s * s;
                d += t * t;
            }
            Vector256<double> sums = (a + b) + (c + d);
            double sum = (sums.GetElement(0) + sums.GetElement(1)) + (sums.GetElement(2) + sums.GetElement(3));
            for (; i < count; i++) sum += (double)x[i] * x[i];
            return sum;
        }

        // x * 0 is 0 unless x is infinite or NaN, and a NaN stays in the sum.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static double Zero(float* x, int count)
        {
            Vector256<float> a = default, b = default;
            int i = 0;
            for (; i <= count - 16; i += 16)
            {
                a += Vector256.Load(x + i) * 0f;
                b += Vector256.Load(x + i + 8) * 0f;
            }
            float sum = Vector256.Sum(a + b);
            for (; i < count; i++) sum += x[i] * 0f;
            return sum;
        }
    }
}
