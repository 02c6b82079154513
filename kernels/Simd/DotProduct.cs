using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Inner products of rows in one fixed order: the last n mod 16 columns first, then column i in virtual lane i mod 16 in order, then the tree of
/// <see cref="ILanes{T}"/>.
/// </summary>
internal static unsafe class DotProduct
{
    /// <summary>The sum of a[i] * b[i].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static float Of<T>(float* a, float* b, int count) where T : unmanaged, ILanes<T>
    {
        int whole = count / Lanes.Count * Lanes.Count;
        T sum = T.Create(0f);
        if (whole < count) sum = Lanes.LoadPart<T>(a + whole, count - whole, 0f) * Lanes.LoadPart<T>(b + whole, count - whole, 0f);
        for (int i = 0; i < whole; i += Lanes.Count) sum = T.MultiplyAdd(T.Load(a + i), T.Load(b + i), sum);
        return T.Sum(sum);
    }

    /// <summary>The same in the width in use.</summary>
    public static float Of(float* a, float* b, int count) => VectorUnit.Width switch
    {
        VectorWidth.Bits512 => Of<Lanes512>(a, b, count),
        VectorWidth.Bits256 => Of<Lanes256>(a, b, count),
        _ => Of<Lanes128>(a, b, count),
    };
}
