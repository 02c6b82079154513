using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Checkpoints;

/// <summary>
/// Exact conversions of 16-bit floats to 32 bits, vectorised at 256 bits where the machine has them and 128 elsewhere. Every value of both formats,
/// subnormals, infinities and NaNs included, has an exact float; NaNs keep their payload. The destination's upper half may be the source.
/// Compiled fully at once: weights are read in the first second of a process, before the runtime would come round to optimising.
/// </summary>
internal static class HalfPrecision
{
    private const uint SubnormalMagic = 113u << 23;

    /// <summary>bfloat16 is the upper half of a float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void FromBFloat16(ReadOnlySpan<ushort> source, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(destination.Length, source.Length);
        ref ushort from = ref MemoryMarshal.GetReference(source);
        ref uint to = ref Unsafe.As<float, uint>(ref MemoryMarshal.GetReference(destination));
        nuint i = 0, length = (nuint)source.Length;
        if (Vector256.IsHardwareAccelerated)
            for (; i + 16 <= length; i += 16)
            {
                (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.LoadUnsafe(ref from, i));
                (low << 16).StoreUnsafe(ref to, i);
                (high << 16).StoreUnsafe(ref to, i + 8);
            }
        else
            for (; i + 8 <= length; i += 8)
            {
                (Vector128<uint> low, Vector128<uint> high) = Vector128.Widen(Vector128.LoadUnsafe(ref from, i));
                (low << 16).StoreUnsafe(ref to, i);
                (high << 16).StoreUnsafe(ref to, i + 4);
            }
        for (; i < length; i++) Unsafe.Add(ref to, i) = (uint)Unsafe.Add(ref from, i) << 16;
    }

    /// <summary>IEEE binary16. Subnormals are made by one exact subtraction, so that no slow subnormal float ever appears.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void FromFloat16(ReadOnlySpan<ushort> source, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(destination.Length, source.Length);
        ref ushort from = ref MemoryMarshal.GetReference(source);
        ref uint to = ref Unsafe.As<float, uint>(ref MemoryMarshal.GetReference(destination));
        nuint i = 0, length = (nuint)source.Length;
        if (Vector256.IsHardwareAccelerated)
            for (; i + 16 <= length; i += 16)
            {
                (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.LoadUnsafe(ref from, i));
                Widen(low).StoreUnsafe(ref to, i);
                Widen(high).StoreUnsafe(ref to, i + 8);
            }
        else
            for (; i + 8 <= length; i += 8)
            {
                (Vector128<uint> low, Vector128<uint> high) = Vector128.Widen(Vector128.LoadUnsafe(ref from, i));
                Widen(low).StoreUnsafe(ref to, i);
                Widen(high).StoreUnsafe(ref to, i + 4);
            }
        for (; i < length; i++) Unsafe.Add(ref to, i) = Widen(Unsafe.Add(ref from, i));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Widen(Vector256<uint> half)
    {
        Vector256<uint> magnitude = half & Vector256.Create(0x7fffu);
        Vector256<uint> normal = (magnitude << 13) + Vector256.Create(112u << 23);
        Vector256<uint> special = normal | Vector256.Create(0xffu << 23);
        Vector256<uint> subnormal = (((magnitude << 13) + Vector256.Create(SubnormalMagic)).AsSingle() - Vector256.Create(SubnormalMagic).AsSingle()).AsUInt32();
        Vector256<uint> value = Vector256.ConditionalSelect(Vector256.LessThan(magnitude, Vector256.Create(0x400u)), subnormal,
            Vector256.ConditionalSelect(Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(0x7c00u)), special, normal));
        return value | ((half & Vector256.Create(0x8000u)) << 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<uint> Widen(Vector128<uint> half)
    {
        Vector128<uint> magnitude = half & Vector128.Create(0x7fffu);
        Vector128<uint> normal = (magnitude << 13) + Vector128.Create(112u << 23);
        Vector128<uint> special = normal | Vector128.Create(0xffu << 23);
        Vector128<uint> subnormal = (((magnitude << 13) + Vector128.Create(SubnormalMagic)).AsSingle() - Vector128.Create(SubnormalMagic).AsSingle()).AsUInt32();
        Vector128<uint> value = Vector128.ConditionalSelect(Vector128.LessThan(magnitude, Vector128.Create(0x400u)), subnormal,
            Vector128.ConditionalSelect(Vector128.GreaterThanOrEqual(magnitude, Vector128.Create(0x7c00u)), special, normal));
        return value | ((half & Vector128.Create(0x8000u)) << 16);
    }

    private static uint Widen(ushort half)
    {
        uint magnitude = half & 0x7fffu, normal = (magnitude << 13) + (112u << 23);
        uint value = magnitude < 0x400
            ? BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle((magnitude << 13) + SubnormalMagic) - BitConverter.UInt32BitsToSingle(SubnormalMagic))
            : magnitude >= 0x7c00 ? normal | (0xffu << 23) : normal;
        return value | ((half & 0x8000u) << 16);
    }
}
