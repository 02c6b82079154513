using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>Sixteen floats in four 128-bit registers.</summary>
internal readonly unsafe struct Lanes128 : ILanes<Lanes128>
{
    private readonly Vector128<float> A;
    private readonly Vector128<float> B;
    private readonly Vector128<float> C;
    private readonly Vector128<float> D;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes128(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d) => (A, B, C, D) = (a, b, c, d);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Load(float* source) =>
        new(Vector128.Load(source), Vector128.Load(source + 4), Vector128.Load(source + 8), Vector128.Load(source + 12));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes128 value, float* destination)
    {
        value.A.Store(destination);
        value.B.Store(destination + 4);
        value.C.Store(destination + 8);
        value.D.Store(destination + 12);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Create(float value)
    {
        Vector128<float> v = Vector128.Create(value);
        return new(v, v, v, v);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 operator +(Lanes128 a, Lanes128 b) =>
        new(a.A + b.A, a.B + b.B, a.C + b.C, a.D + b.D);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 operator -(Lanes128 a, Lanes128 b) =>
        new(a.A - b.A, a.B - b.B, a.C - b.C, a.D - b.D);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 operator *(Lanes128 a, Lanes128 b) =>
        new(a.A * b.A, a.B * b.B, a.C * b.C, a.D * b.D);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 operator /(Lanes128 a, Lanes128 b) =>
        new(a.A / b.A, a.B / b.B, a.C / b.C, a.D / b.D);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 MultiplyAdd(Lanes128 a, Lanes128 b, Lanes128 c) =>
        new(Vector128.MultiplyAddEstimate(a.A, b.A, c.A), Vector128.MultiplyAddEstimate(a.B, b.B, c.B), Vector128.MultiplyAddEstimate(a.C, b.C, c.C), Vector128.MultiplyAddEstimate(a.D, b.D, c.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Min(Lanes128 a, Lanes128 b) =>
        new(Vector128.MinNative(a.A, b.A), Vector128.MinNative(a.B, b.B), Vector128.MinNative(a.C, b.C), Vector128.MinNative(a.D, b.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Max(Lanes128 a, Lanes128 b) =>
        new(Vector128.MaxNative(a.A, b.A), Vector128.MaxNative(a.B, b.B), Vector128.MaxNative(a.C, b.C), Vector128.MaxNative(a.D, b.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Abs(Lanes128 a) =>
        new(Vector128.Abs(a.A), Vector128.Abs(a.B), Vector128.Abs(a.C), Vector128.Abs(a.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 SquareRoot(Lanes128 a) =>
        new(Vector128.Sqrt(a.A), Vector128.Sqrt(a.B), Vector128.Sqrt(a.C), Vector128.Sqrt(a.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 SelectLess(Lanes128 x, Lanes128 y, Lanes128 whenLess, Lanes128 otherwise) =>
        new(Vector128.ConditionalSelect(Vector128.LessThan(x.A, y.A), whenLess.A, otherwise.A), Vector128.ConditionalSelect(Vector128.LessThan(x.B, y.B), whenLess.B, otherwise.B), Vector128.ConditionalSelect(Vector128.LessThan(x.C, y.C), whenLess.C, otherwise.C), Vector128.ConditionalSelect(Vector128.LessThan(x.D, y.D), whenLess.D, otherwise.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint LessMask(Lanes128 x, Lanes128 y) =>
        Vector128.LessThan(x.A, y.A).ExtractMostSignificantBits()
        | (Vector128.LessThan(x.B, y.B).ExtractMostSignificantBits() << 4)
        | (Vector128.LessThan(x.C, y.C).ExtractMostSignificantBits() << 8)
        | (Vector128.LessThan(x.D, y.D).ExtractMostSignificantBits() << 12);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 PowerOfTwo(Lanes128 shifted) =>
        new(Power(shifted.A), Power(shifted.B), Power(shifted.C), Power(shifted.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Lanes128 a) =>
        VectorSums.Sum((a.A + a.C) + (a.B + a.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Largest(Lanes128 a) =>
        VectorSums.Largest(Vector128.MaxNative(Vector128.MaxNative(a.A, a.C), Vector128.MaxNative(a.B, a.D)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Power(Vector128<float> shifted) =>
        (Vector128.ShiftLeft(shifted.AsInt32(), 23) + Vector128.Create(0x3F800000)).AsSingle();
}
