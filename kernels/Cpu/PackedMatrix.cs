using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The packed form of a weight matrix: panels of 32 output columns, [ceil(n / 32)][k][32], the last one filled up with zeros, so that the inner loop of
/// <see cref="Linear"/> reads memory in one straight line. Packing costs one read and one write of the matrix and is done once, at load.
/// </summary>
public static unsafe class PackedMatrix
{
    /// <summary>Columns of a panel.</summary>
    public const int PanelColumns = Tiles.Columns;

    /// <summary>Floats that the packed form of a [n, k] matrix takes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A dimension is negative.</exception>
    public static long Length(int n, int k)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(n);
        ArgumentOutOfRangeException.ThrowIfNegative(k);
        return ((long)n + PanelColumns - 1) / PanelColumns * PanelColumns * k;
    }

    /// <summary>Packs a row-major [n, k] matrix (nn.Linear's layout: one row an output).</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="weight">[n, k], rows <paramref name="ldWeight"/> floats apart.</param>
    /// <param name="ldWeight">At least k.</param>
    /// <param name="n">Outputs, at least 1.</param>
    /// <param name="k">Inputs, at least 1.</param>
    /// <param name="packed">Receives <see cref="Length"/> floats; should be 64-byte aligned. Must not overlap the source.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Pack(WorkerTeam team, float* weight, int ldWeight, int n, int k, float* packed)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldWeight, k);
        PackJob job = new() { Weight = weight, Stride = ldWeight, N = n, K = k, Packed = packed };
        team.Run(ref job, (n + PanelColumns - 1) / PanelColumns);
    }

    /// <summary>One part packs one panel.</summary>
    private struct PackJob : ITeamJob
    {
        public float* Weight;
        public nint Stride;
        public int N;
        public int K;
        public float* Packed;

        public readonly void Execute(int part, int worker)
        {
            int first = part * PanelColumns;
            PanelPacking.Transpose(Weight + (first * Stride), Stride, Math.Min(PanelColumns, N - first), K, Packed + ((nint)first * K));
        }
    }
}
