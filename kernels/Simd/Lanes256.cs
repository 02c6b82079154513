using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>Sixteen floats in two 256-bit registers.</summary>
internal readonly unsafe struct Lanes256 : ILanes<Lanes256>
{
    private readonly Vector256<float> A;
    private readonly Vector256<float> B;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes256(Vector256<float> a, Vector256<float> b) => (A, B) = (a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Load(float* source) =>
        new(Vector256.Load(source), Vector256.Load(source + 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes256 value, float* destination)
    {
        value.A.Store(destination);
        value.B.Store(destination + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Create(float value)
    {
        Vector256<float> v = Vector256.Create(value);
        return new(v, v);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 operator +(Lanes256 a, Lanes256 b) =>
        new(a.A + b.A, a.B + b.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 operator -(Lanes256 a, Lanes256 b) =>
        new(a.A - b.A, a.B - b.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 operator *(Lanes256 a, Lanes256 b) =>
        new(a.A * b.A, a.B * b.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 operator /(Lanes256 a, Lanes256 b) =>
        new(a.A / b.A, a.B / b.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 MultiplyAdd(Lanes256 a, Lanes256 b, Lanes256 c) =>
        new(Vector256.MultiplyAddEstimate(a.A, b.A, c.A), Vector256.MultiplyAddEstimate(a.B, b.B, c.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Min(Lanes256 a, Lanes256 b) =>
        new(Vector256.MinNative(a.A, b.A), Vector256.MinNative(a.B, b.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Max(Lanes256 a, Lanes256 b) =>
        new(Vector256.MaxNative(a.A, b.A), Vector256.MaxNative(a.B, b.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Abs(Lanes256 a) =>
        new(Vector256.Abs(a.A), Vector256.Abs(a.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 SquareRoot(Lanes256 a) =>
        new(Vector256.Sqrt(a.A), Vector256.Sqrt(a.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 SelectLess(Lanes256 x, Lanes256 y, Lanes256 whenLess, Lanes256 otherwise) =>
        new(Vector256.ConditionalSelect(Vector256.LessThan(x.A, y.A), whenLess.A, otherwise.A), Vector256.ConditionalSelect(Vector256.LessThan(x.B, y.B), whenLess.B, otherwise.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint LessMask(Lanes256 x, Lanes256 y) =>
        Vector256.LessThan(x.A, y.A).ExtractMostSignificantBits()
        | (Vector256.LessThan(x.B, y.B).ExtractMostSignificantBits() << 8);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 PowerOfTwo(Lanes256 shifted) =>
        new(Power(shifted.A), Power(shifted.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Lanes256 a) =>
        VectorSums.Sum(a.A + a.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Largest(Lanes256 a) =>
        VectorSums.Largest(Vector256.MaxNative(a.A, a.B));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Power(Vector256<float> shifted) =>
        (Vector256.ShiftLeft(shifted.AsInt32(), 23) + Vector256.Create(0x3F800000)).AsSingle();
}
