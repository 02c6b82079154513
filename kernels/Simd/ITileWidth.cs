using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>A register width for <see cref="TileRows"/>, over the bare vector type so that the accumulators stay in registers.</summary>
internal unsafe interface ITileWidth<TVector> where TVector : unmanaged
{
    /// <summary>Floats in a register.</summary>
    static abstract int Count { get; }

    /// <summary>Reads a register.</summary>
    static abstract TVector Load(float* source);

    /// <summary>Writes a register.</summary>
    static abstract void Store(TVector value, float* destination);

    /// <summary>One float in every lane.</summary>
    static abstract TVector Broadcast(byte* source);

    /// <summary>a * b + c, fused where the machine can.</summary>
    static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);
}

/// <summary>Tiles of 512-bit registers: 32 columns.</summary>
internal readonly unsafe struct Tile512 : ITileWidth<Vector512<float>>
{
    public static int Count => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(float* source) => Vector512.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Broadcast(byte* source) => Vector512.Create(*(float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.MultiplyAddEstimate(a, b, c);
}

/// <summary>Tiles of 256-bit registers: 16 columns.</summary>
internal readonly unsafe struct Tile256 : ITileWidth<Vector256<float>>
{
    public static int Count => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Load(float* source) => Vector256.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector256<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Broadcast(byte* source) => Vector256.Create(*(float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Vector256.MultiplyAddEstimate(a, b, c);
}

/// <summary>Tiles of 128-bit registers: 8 columns.</summary>
internal readonly unsafe struct Tile128 : ITileWidth<Vector128<float>>
{
    public static int Count => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Load(float* source) => Vector128.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector128<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Broadcast(byte* source) => Vector128.Create(*(float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> MultiplyAdd(Vector128<float> a, Vector128<float> b, Vector128<float> c) => Vector128.MultiplyAddEstimate(a, b, c);
}
