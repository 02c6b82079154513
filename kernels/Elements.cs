namespace BgeMetal.Kernels;

/// <summary>
/// A storage type of floating-point elements. Kernels are written once, generic over it; values are converted to 32-bit floating point
/// when they are loaded and rounded to nearest even when they are stored.
/// </summary>
public interface IElement
{
    /// <summary>The run-time name of the type.</summary>
    static abstract DType DType { get; }

    /// <summary>Binary logarithm of the element's size in bytes.</summary>
    static abstract int SizeShift { get; }

    /// <summary>Rounds <paramref name="value"/> to the storage type and returns its bits, zero-extended.</summary>
    static abstract uint ToBits(float value);

    /// <summary>The value of an element with these bits.</summary>
    static abstract float FromBits(uint bits);
}

/// <summary>IEEE 754 binary32.</summary>
public readonly struct FP32 : IElement
{
    /// <summary>The element's bits.</summary>
    public uint Bits { get; }

    /// <summary>Stores <paramref name="value"/> exactly.</summary>
    public FP32(float value) => Bits = ToBits(value);

    /// <inheritdoc/>
    public static DType DType => DType.Float32;

    /// <inheritdoc/>
    public static int SizeShift => 2;

    /// <inheritdoc/>
    public static uint ToBits(float value) => BitConverter.SingleToUInt32Bits(value);

    /// <inheritdoc/>
    public static float FromBits(uint bits) => BitConverter.UInt32BitsToSingle(bits);
}

/// <summary>bfloat16: sign, 8 bits of exponent, 7 bits of fraction.</summary>
public readonly struct BF16 : IElement
{
    /// <summary>The element's bits.</summary>
    public ushort Bits { get; }

    /// <summary>Stores <paramref name="value"/>, rounded to nearest even.</summary>
    public BF16(float value) => Bits = (ushort)ToBits(value);

    /// <inheritdoc/>
    public static DType DType => DType.BFloat16;

    /// <inheritdoc/>
    public static int SizeShift => 1;

    /// <inheritdoc/>
    public static uint ToBits(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    }

    /// <inheritdoc/>
    public static float FromBits(uint bits) => BitConverter.UInt32BitsToSingle(bits << 16);
}

/// <summary>IEEE 754 binary16.</summary>
public readonly struct FP16 : IElement
{
    /// <summary>The element's bits.</summary>
    public ushort Bits { get; }

    /// <summary>Stores <paramref name="value"/>, rounded to nearest even; beyond 65504 it becomes an infinity.</summary>
    public FP16(float value) => Bits = (ushort)ToBits(value);

    /// <inheritdoc/>
    public static DType DType => DType.Float16;

    /// <inheritdoc/>
    public static int SizeShift => 1;

    /// <inheritdoc/>
    public static uint ToBits(float value) => BitConverter.HalfToUInt16Bits((Half)value);

    /// <inheritdoc/>
    public static float FromBits(uint bits) => (float)BitConverter.UInt16BitsToHalf((ushort)bits);
}
