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
        T a = T.Create(0f), b = T.Create(0f);
        int i = 0;
        for (; i <= n - 32; i += 32)
        {
            a += T.Load(x + i);
            b += T.Load(x + i + 16);
        }
        if (i <= n - 16)
        {
            a += T.Load(x + i);
            i += 16;
            if (i < n) b += Lanes.LoadPart<T>(x + i, n - i, 0f);
        }
        else if (i < n)
        {
            a += Lanes.LoadPart<T>(x + i, n - i, 0f);
        }
        return T.Sum(a + b);
    }

    /// <summary>The sum of (x[i] - center)^2 over 0..n.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SquaredDeviations<T>(float* x, int n, float center) where T : unmanaged, ILanes<T>
    {
        T a = T.Create(0f), b = T.Create(0f), c = T.Create(center);
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
            i += 16;
            if (i < n)
            {
                T v = Lanes.LoadPart<T>(x + i, n - i, center) - c;
                b = T.MultiplyAdd(v, v, b);
            }
        }
        else if (i < n)
        {
            T u = Lanes.LoadPart<T>(x + i, n - i, center) - c;
            a = T.MultiplyAdd(u, u, a);
        }
        return T.Sum(a + b);
    }
}
