using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Bench;

/// <summary>The fp32 multiply-add peak of this machine as managed code reaches it: independent chains in registers and nothing else.</summary>
internal static class CpuPeak
{
    private const int Iterations = 400_000;
    private const int Chains = 12;

    /// <summary>FLOP/s of a whole team at the width in use: the best of several short runs.</summary>
    public static double FlopsPerSecond(WorkerTeam team, int runs = 30)
    {
        double best = 0;
        for (int run = 0; run < runs; run++)
        {
            PeakJob job = new() { Sums = new float[team.Threads] };
            double start = CpuClock.Now(team.Threads);
            team.Run(ref job, team.Threads);
            double seconds = CpuClock.Now(team.Threads) - start;
            best = Math.Max(best, 2.0 * Iterations * Chains * (int)VectorUnit.Width / 32 * team.Threads / seconds);
        }
        return best;
    }

    private struct PeakJob : ITeamJob
    {
        public float[] Sums;

        public readonly void Execute(int part, int worker) => Sums[part] = VectorUnit.Width switch
        {
            VectorWidth.Bits512 => Chain<Tile512, Vector512<float>>(),
            VectorWidth.Bits256 => Chain<Tile256, Vector256<float>>(),
            _ => Chain<Tile128, Vector128<float>>(),
        };
    }

    // Twelve chains of latency 4 keep two units busy, and with two operands they fit 16 registers.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe float Chain<TWidth, TVector>() where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        float* data = stackalloc float[16];
        for (int i = 0; i < 16; i++) data[i] = 0.5f;
        TVector x = TWidth.Load(data), y = x;
        TVector a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i0 = x, j = x, k = x, l = x;
        for (int i = 0; i < Iterations; i++)
        {
            a = TWidth.MultiplyAdd(a, x, y); b = TWidth.MultiplyAdd(b, x, y); c = TWidth.MultiplyAdd(c, x, y); d = TWidth.MultiplyAdd(d, x, y);
            e = TWidth.MultiplyAdd(e, x, y); f = TWidth.MultiplyAdd(f, x, y); g = TWidth.MultiplyAdd(g, x, y); h = TWidth.MultiplyAdd(h, x, y);
            i0 = TWidth.MultiplyAdd(i0, x, y); j = TWidth.MultiplyAdd(j, x, y); k = TWidth.MultiplyAdd(k, x, y); l = TWidth.MultiplyAdd(l, x, y);
        }
        a = TWidth.MultiplyAdd(TWidth.MultiplyAdd(a, b, c), TWidth.MultiplyAdd(d, e, f), TWidth.MultiplyAdd(g, h, i0));
        j = TWidth.MultiplyAdd(j, k, l);
        TWidth.Store(TWidth.MultiplyAdd(a, x, j), data);
        return data[0];
    }
}
