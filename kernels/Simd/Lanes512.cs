using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>Sixteen floats in one 512-bit register.</summary>
internal readonly unsafe struct Lanes512 : ILanes<Lanes512>
{
    private readonly Vector512<float> A;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes512(Vector512<float> a) => A = a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Load(float* source) =>
        new(Vector512.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes512 value, float* destination) =>
        value.A.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Create(float value) =>
        new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 operator +(Lanes512 a, Lanes512 b) =>
        new(a.A + b.A);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 operator -(Lanes512 a, Lanes512 b) =>
        new(a.A - b.A);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 operator *(Lanes512 a, Lanes512 b) =>
        new(a.A * b.A);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 operator /(Lanes512 a, Lanes512 b) =>
        new(a.A / b.A);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 MultiplyAdd(Lanes512 a, Lanes512 b, Lanes512 c) =>
        new(Vector512.MultiplyAddEstimate(a.A, b.A, c.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Min(Lanes512 a, Lanes512 b) =>
        new(Vector512.MinNative(a.A, b.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Max(Lanes512 a, Lanes512 b) =>
        new(Vector512.MaxNative(a.A, b.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Abs(Lanes512 a) =>
        new(Vector512.Abs(a.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 SquareRoot(Lanes512 a) =>
        new(Vector512.Sqrt(a.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 SelectLess(Lanes512 x, Lanes512 y, Lanes512 whenLess, Lanes512 otherwise) =>
        new(Vector512.ConditionalSelect(Vector512.LessThan(x.A, y.A), whenLess.A, otherwise.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint LessMask(Lanes512 x, Lanes512 y) =>
        (uint)Vector512.LessThan(x.A, y.A).ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 PowerOfTwo(Lanes512 shifted) =>
        new(Power(shifted.A));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Lanes512 a) =>
        VectorSums.Sum(a.A.GetLower() + a.A.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Largest(Lanes512 a) =>
        VectorSums.Largest(Vector256.MaxNative(a.A.GetLower(), a.A.GetUpper()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Power(Vector512<float> shifted) =>
        (Vector512.ShiftLeft(shifted.AsInt32(), 23) + Vector512.Create(0x3F800000)).AsSingle();
}
