using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Inner products for an exact search that must give the same bits as the matrix tile: <see cref="Exact"/> adds in the tile's order, one chain over the
/// columns, and is slow; <see cref="Estimate"/> uses 64 lanes and runs at memory speed, and comes with a proven bound on its distance from the former.
/// </summary>
internal static unsafe class InnerProducts
{
    private const float UnitRoundoff = 1f / (1 << 24);

    /// <summary>The sum of a[i] * b[i], one multiply-add after the other: bit-equal to <see cref="Tiles"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Exact(float* a, float* b, int count)
    {
        float sum = 0f;
        for (int i = 0; i < count; i++) sum = VectorUnit.MultiplyAdd(a[i], b[i], sum);
        return sum;
    }

    /// <summary>
    /// The factor f with |Estimate - Exact| &lt;= f * |a| * |b|: both differ from the true value by at most (roundings) * 2^-24 * sum |a[i] b[i]| (Higham,
    /// Accuracy and Stability of Numerical Algorithms, section 3.1), and the sum is at most |a| |b| (Cauchy-Schwarz). One per cent covers the second order.
    /// </summary>
    public static float ErrorFactor(int count) => 1.01f * UnitRoundoff * ((VectorUnit.HasFusedMultiplyAdd ? 1 : 2) * (count + (count / 64) + 16));

    /// <summary>Returns about a . b; <paramref name="squaredNorm"/> receives about b . b, at no cost where memory is the limit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static float Estimate<T>(float* a, float* b, int count, out float squaredNorm) where T : unmanaged, ILanes<T>
    {
        T tailA = T.Create(0f), tailB = tailA;
        if (count % Lanes.Count != 0)                     // read before the sums are live: see RowReductions
        {
            int whole = count / Lanes.Count * Lanes.Count;
            tailA = Lanes.LoadPart<T>(a + whole, count - whole, 0f);
            tailB = Lanes.LoadPart<T>(b + whole, count - whole, 0f);
        }
        T s0 = T.Create(0f), s1 = s0, s2 = s0, s3 = s0, n0 = s0, n1 = s0, n2 = s0, n3 = s0;
        int i = 0;
        for (; i <= count - 64; i += 64)
        {
            T b0 = T.Load(b + i), b1 = T.Load(b + i + 16), b2 = T.Load(b + i + 32), b3 = T.Load(b + i + 48);
            s0 = T.MultiplyAdd(T.Load(a + i), b0, s0);
            s1 = T.MultiplyAdd(T.Load(a + i + 16), b1, s1);
            s2 = T.MultiplyAdd(T.Load(a + i + 32), b2, s2);
            s3 = T.MultiplyAdd(T.Load(a + i + 48), b3, s3);
            n0 = T.MultiplyAdd(b0, b0, n0);
            n1 = T.MultiplyAdd(b1, b1, n1);
            n2 = T.MultiplyAdd(b2, b2, n2);
            n3 = T.MultiplyAdd(b3, b3, n3);
        }
        for (; i <= count - 16; i += 16)
        {
            T b0 = T.Load(b + i);
            s0 = T.MultiplyAdd(T.Load(a + i), b0, s0);
            n0 = T.MultiplyAdd(b0, b0, n0);
        }
        s0 = T.MultiplyAdd(tailA, tailB, s0);
        n0 = T.MultiplyAdd(tailB, tailB, n0);
        squaredNorm = T.Sum((n0 + n1) + (n2 + n3));
        return T.Sum((s0 + s1) + (s2 + s3));
    }

    /// <summary>
    /// masks[r], bit j: set unless tile[r, j] &lt; thresholds[j], for r &lt; rows and j &lt; 32; a NaN sets its bit. Returns whether any bit is set.
    /// </summary>
    public static bool NotBelow(float* tile, int rows, float* thresholds, uint* masks) => VectorUnit.Width switch
    {
        VectorWidth.Bits512 => NotBelow<Lanes512>(tile, rows, thresholds, masks),
        VectorWidth.Bits256 => NotBelow<Lanes256>(tile, rows, thresholds, masks),
        _ => NotBelow<Lanes128>(tile, rows, thresholds, masks),
    };

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool NotBelow<T>(float* tile, int rows, float* thresholds, uint* masks) where T : unmanaged, ILanes<T>
    {
        T low = T.Load(thresholds), high = T.Load(thresholds + 16);
        uint any = 0;
        for (int r = 0; r < rows; r++, tile += Tiles.Columns)
            any |= masks[r] = ~(T.LessMask(T.Load(tile), low) | (T.LessMask(T.Load(tile + 16), high) << 16));
        return any != 0;
    }
}
