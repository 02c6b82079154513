using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Sums along a row with one fixed order of additions: column i goes to virtual lane i mod 32, each lane adds up its columns in order, and the lanes are
/// added in the tree 32, 16, 8, 4, 2, 1. The order depends on the row's length only.
/// </summary>
internal static unsafe class RowReductions
{
    /// <summary>The sum of x[0..n).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum<T>(float* x, int n) where T : unmanaged, ILanes<T>
    {
        T tail = Tail<T>(x, n, 0f);
        T a = T.Create(0f), b = a;
        int i = 0;
        for (; i <= n - 32; i += 32)
        {
            a += T.Load(x + i);
            b += T.Load(x + i + 16);
        }
        if (i <= n - 16)
        {
            a += T.Load(x + i);
            b += tail;
        }
        else
        {
            a += tail;
        }
        return T.Sum(a + b);
    }

    /// <summary>The same in the width in use.</summary>
    public static float Sum(float* x, int n) => VectorUnit.Width switch
    {
        VectorWidth.Bits512 => Sum<Lanes512>(x, n),
        VectorWidth.Bits256 => Sum<Lanes256>(x, n),
        _ => Sum<Lanes128>(x, n),
    };

    /// <summary>The sum of (x[i] - center)^2 over 0..n.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SquaredDeviations<T>(float* x, int n, float center) where T : unmanaged, ILanes<T>
    {
        T c = T.Create(center);
        T tail = Tail<T>(x, n, center) - c;
        T a = T.Create(0f), b = a;
        int i = 0;
        for (; i <= n - 32; i += 32)
        {
            T u = T.Load(x + i) - c, v = T.Load(x + i + 16) - c;
            a = T.MultiplyAdd(u, u, a);
            b = T.MultiplyAdd(v, v, b);
        }
        if (i <= n - 16)
        {
            T u = T.Load(x + i) - c;
            a = T.MultiplyAdd(u, u, a);
            b = T.MultiplyAdd(tail, tail, b);
        }
        else
        {
            a = T.MultiplyAdd(tail, tail, a);
        }
        return T.Sum(a + b);
    }

    // The last n mod 16 columns. Read before the loops, because a call while the sums are live would make them live in memory.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Tail<T>(float* x, int n, float fill) where T : unmanaged, ILanes<T> =>
        n % Lanes.Count == 0 ? T.Create(fill) : Lanes.LoadPart<T>(x + (n / Lanes.Count * Lanes.Count), n % Lanes.Count, fill);
}
