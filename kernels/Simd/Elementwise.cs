using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>An elementwise function of sixteen lanes, passed as a type so that the loop around it is compiled for it alone.</summary>
internal interface ILaneFunction
{
    static abstract T Apply<T>(T x) where T : unmanaged, ILanes<T>;
}

/// <summary>GELU (erf).</summary>
internal readonly struct GeluFunction : ILaneFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x) where T : unmanaged, ILanes<T> => VectorMath.Gelu(x);
}

/// <summary>Hyperbolic tangent.</summary>
internal readonly struct TanhFunction : ILaneFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x) where T : unmanaged, ILanes<T> => VectorMath.Tanh(x);
}

/// <summary>2^x.</summary>
internal readonly struct Exp2Function : ILaneFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Apply<T>(T x) where T : unmanaged, ILanes<T> => VectorMath.Exp2(x);
}

/// <summary>
/// Elementwise functions over a block of rows, in place, one thread. <c>stride</c> is the distance between rows in floats; columns behind
/// <c>columns</c> are neither read nor written.
/// </summary>
internal static unsafe class Elementwise
{
    /// <summary>x = f(x) for every element of the block.</summary>
    public static void Apply<TFunction>(float* x, nint stride, int rows, int columns) where TFunction : struct, ILaneFunction
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Map<TFunction, Lanes512>(x, stride, rows, columns); break;
            case VectorWidth.Bits256: Map<TFunction, Lanes256>(x, stride, rows, columns); break;
            default: Map<TFunction, Lanes128>(x, stride, rows, columns); break;
        }
    }

    /// <summary>x += y for every element of the block.</summary>
    public static void Add(float* x, nint stride, float* y, nint strideY, int rows, int columns)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Sum<Lanes512>(x, stride, y, strideY, rows, columns); break;
            case VectorWidth.Bits256: Sum<Lanes256>(x, stride, y, strideY, rows, columns); break;
            default: Sum<Lanes128>(x, stride, y, strideY, rows, columns); break;
        }
    }

    /// <summary>x *= factor for one row.</summary>
    public static void Scale(float* x, float factor, int count)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Scale<Lanes512>(x, factor, count); break;
            case VectorWidth.Bits256: Scale<Lanes256>(x, factor, count); break;
            default: Scale<Lanes128>(x, factor, count); break;
        }
    }

    /// <summary>y += factor * x for one row.</summary>
    public static void AddScaled(float* y, float* x, float factor, int count)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: AddScaled<Lanes512>(y, x, factor, count); break;
            case VectorWidth.Bits256: AddScaled<Lanes256>(y, x, factor, count); break;
            default: AddScaled<Lanes128>(y, x, factor, count); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scale<T>(float* x, float factor, int count) where T : unmanaged, ILanes<T>
    {
        T scale = T.Create(factor);
        int i = 0;
        for (; i <= count - Lanes.Count; i += Lanes.Count) T.Store(T.Load(x + i) * scale, x + i);
        for (; i < count; i++) x[i] *= factor;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddScaled<T>(float* y, float* x, float factor, int count) where T : unmanaged, ILanes<T>
    {
        T scale = T.Create(factor);
        int i = 0;
        for (; i <= count - Lanes.Count; i += Lanes.Count) T.Store(T.MultiplyAdd(scale, T.Load(x + i), T.Load(y + i)), y + i);
        for (; i < count; i++) y[i] = VectorUnit.MultiplyAdd(factor, x[i], y[i]);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Map<TFunction, T>(float* x, nint stride, int rows, int columns)
        where TFunction : struct, ILaneFunction where T : unmanaged, ILanes<T>
    {
        for (int r = 0; r < rows; r++, x += stride)
        {
            int i = 0;
            for (; i <= columns - Lanes.Count; i += Lanes.Count) T.Store(TFunction.Apply(T.Load(x + i)), x + i);
            if (i < columns) Lanes.StorePart(TFunction.Apply(Lanes.LoadPart<T>(x + i, columns - i, 0f)), x + i, columns - i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sum<T>(float* x, nint stride, float* y, nint strideY, int rows, int columns) where T : unmanaged, ILanes<T>
    {
        for (int r = 0; r < rows; r++, x += stride, y += strideY)
        {
            int i = 0;
            for (; i <= columns - Lanes.Count; i += Lanes.Count) T.Store(T.Load(x + i) + T.Load(y + i), x + i);
            for (; i < columns; i++) x[i] += y[i];
        }
    }
}
