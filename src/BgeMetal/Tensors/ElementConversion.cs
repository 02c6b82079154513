using System.Numerics;
using System.Runtime.InteropServices;
using BgeMetal.Kernels;

namespace BgeMetal.Tensors;

/// <summary>Host-side conversion between floats and the storage types of activations and weights.</summary>
internal static class ElementConversion
{
    /// <summary>Rounds to nearest even; <paramref name="bytes"/> holds as many elements of <paramref name="dtype"/> and may be the floats' own memory.</summary>
    public static void FromFloats(ReadOnlySpan<float> floats, DType dtype, Span<byte> bytes)
    {
        switch (dtype)
        {
            case DType.BFloat16: Narrow<BF16>(floats, bytes); break;
            case DType.Float16: Narrow<FP16>(floats, bytes); break;
            case DType.Float32: MemoryMarshal.AsBytes(floats).CopyTo(bytes); break;
            default: throw new ArgumentException($"floats are not stored as {dtype}", nameof(dtype));
        }
    }

    /// <summary>Exact.</summary>
    public static void ToFloats(ReadOnlySpan<byte> bytes, DType dtype, Span<float> floats)
    {
        switch (dtype)
        {
            case DType.BFloat16: Widen<BF16>(bytes, floats); break;
            case DType.Float16: Widen<FP16>(bytes, floats); break;
            case DType.Float32: bytes.CopyTo(MemoryMarshal.AsBytes(floats)); break;
            default: throw new ArgumentException($"{dtype} is not a storage type of floats", nameof(dtype));
        }
    }

    // In ascending order: a 16-bit element never lies behind the float that it came from.
    private static void Narrow<T>(ReadOnlySpan<float> floats, Span<byte> bytes) where T : unmanaged, IElement
    {
        Span<ushort> halves = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (int i = 0; i < floats.Length; i++) halves[i] = (ushort)T.ToBits(floats[i]);
    }

    private static void Widen<T>(ReadOnlySpan<byte> bytes, Span<float> floats) where T : unmanaged, IElement
    {
        ReadOnlySpan<ushort> halves = MemoryMarshal.Cast<byte, ushort>(bytes);
        int i = 0;
        if (typeof(T) == typeof(BF16))
        {
            // The upper halves of floats, a vector at a time.
            for (; i + Vector<ushort>.Count <= floats.Length; i += Vector<ushort>.Count)
            {
                Vector.Widen(new Vector<ushort>(halves[i..]), out Vector<uint> low, out Vector<uint> high);
                Vector.AsVectorSingle(low << 16).CopyTo(floats[i..]);
                Vector.AsVectorSingle(high << 16).CopyTo(floats[(i + Vector<uint>.Count)..]);
            }
        }
        for (; i < floats.Length; i++) floats[i] = T.FromBits(halves[i]);
    }
}
