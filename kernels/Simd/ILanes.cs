using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Sixteen floats, held in one, two or four registers. Elementwise and row kernels are written once over this type; because every width works on the
/// same sixteen lanes and adds them up in the same tree, the results do not depend on the width.
/// </summary>
internal unsafe interface ILanes<T> where T : unmanaged, ILanes<T>
{
    /// <summary>Reads 16 floats; no alignment is needed.</summary>
    static abstract T Load(float* source);

    /// <summary>Writes 16 floats; no alignment is needed.</summary>
    static abstract void Store(T value, float* destination);

    /// <summary>All lanes equal.</summary>
    static abstract T Create(float value);

    static abstract T operator +(T a, T b);

    static abstract T operator -(T a, T b);

    static abstract T operator *(T a, T b);

    static abstract T operator /(T a, T b);

    /// <summary>a * b + c, rounded once where the machine can.</summary>
    static abstract T MultiplyAdd(T a, T b, T c);

    /// <summary>The smaller of each pair; which one is returned beside a NaN is the machine's choice.</summary>
    static abstract T Min(T a, T b);

    /// <summary>The larger of each pair; which one is returned beside a NaN is the machine's choice.</summary>
    static abstract T Max(T a, T b);

    /// <summary>The magnitude of each lane.</summary>
    static abstract T Abs(T a);

    /// <summary>The correctly rounded square root of each lane.</summary>
    static abstract T SquareRoot(T a);

    /// <summary>Lane by lane: x &lt; y ? whenLess : otherwise. A NaN takes <paramref name="otherwise"/>.</summary>
    static abstract T SelectLess(T x, T y, T whenLess, T otherwise);

    /// <summary>Bit i is set where lane i of x is less than that of y; a NaN is not less.</summary>
    static abstract uint LessMask(T x, T y);

    /// <summary>2^n, where <paramref name="shifted"/> = n + 1.5 * 2^23 (so that n sits in its low bits) and -126 &lt;= n &lt;= 127.</summary>
    static abstract T PowerOfTwo(T shifted);

    /// <summary>The sum over lanes in the fixed tree 16, 8, 4, 2, 1.</summary>
    static abstract float Sum(T a);

    /// <summary>The largest lane.</summary>
    static abstract float Largest(T a);
}

/// <summary>Parts of a 16-lane block: the tails of rows whose length is not a multiple of 16.</summary>
internal static unsafe class Lanes
{
    /// <summary>Floats in a block.</summary>
    public const int Count = 16;

    /// <summary>Reads <paramref name="count"/> floats (0..16) and fills the other lanes; nothing behind the last float is touched.</summary>
    [MethodImpl(MethodImplOptions.NoInlining), SkipLocalsInit]
    public static T LoadPart<T>(float* source, int count, float fill) where T : unmanaged, ILanes<T>
    {
        float* block = stackalloc float[Count];
        for (int i = 0; i < Count; i++) block[i] = i < count ? source[i] : fill;
        return T.Load(block);
    }

    /// <summary>Writes the first <paramref name="count"/> lanes (0..16); nothing behind them is touched.</summary>
    [MethodImpl(MethodImplOptions.NoInlining), SkipLocalsInit]
    public static void StorePart<T>(T value, float* destination, int count) where T : unmanaged, ILanes<T>
    {
        float* block = stackalloc float[Count];
        T.Store(value, block);
        for (int i = 0; i < count; i++) destination[i] = block[i];
    }
}
