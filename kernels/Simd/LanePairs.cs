using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>An elementwise function of two operands, passed as a type so that the loop around it is compiled for it alone.</summary>
internal interface ILanePair
{
    static abstract T Apply<T>(T x, T y) where T : unmanaged, ILanes<T>;
}

/// <summary>gelu(x); the second operand is ignored.</summary>
internal readonly struct GeluPair : ILanePair
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x, T y) where T : unmanaged, ILanes<T> => VectorMath.Gelu(x);
}

/// <summary>gelu'(x) * dy.</summary>
internal readonly struct GeluGradientPair : ILanePair
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x, T y) where T : unmanaged, ILanes<T> => VectorMath.GeluDerivative(x) * y;
}

/// <summary>(1 - y^2) * dy.</summary>
internal readonly struct TanhGradientPair : ILanePair
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x, T y) where T : unmanaged, ILanes<T> => (T.Create(1f) - (x * x)) * y;
}

/// <summary>x * y.</summary>
internal readonly struct ProductPair : ILanePair
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x, T y) where T : unmanaged, ILanes<T> => x * y;
}

/// <summary>Functions of two rows.</summary>
internal static unsafe class LanePairs
{
    /// <summary>z[i] = f(x[i], y[i]) for i &lt; count; z may be x or y.</summary>
    public static void Row<TFunction>(float* x, float* y, float* z, int count) where TFunction : struct, ILanePair
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Row<TFunction, Lanes512>(x, y, z, count); break;
            case VectorWidth.Bits256: Row<TFunction, Lanes256>(x, y, z, count); break;
            default: Row<TFunction, Lanes128>(x, y, z, count); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Row<TFunction, T>(float* x, float* y, float* z, int count) where TFunction : struct, ILanePair where T : unmanaged, ILanes<T>
    {
        int i = 0;
        for (; i <= count - Lanes.Count; i += Lanes.Count) T.Store(TFunction.Apply(T.Load(x + i), T.Load(y + i)), z + i);
        if (i < count)
            Lanes.StorePart(TFunction.Apply(Lanes.LoadPart<T>(x + i, count - i, 0f), Lanes.LoadPart<T>(y + i, count - i, 0f)), z + i, count - i);
    }
}
