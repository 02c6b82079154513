using System.Runtime.InteropServices;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// Random numbers as bytes of an element type, made once for each type and range: what operands are filled with, again and again, because making them on the
/// host would take longer than what is timed.
/// </summary>
internal sealed class RandomPatterns(int length = 1 << 20)
{
    private readonly Dictionary<(DType, float, float), byte[]> _blocks = [];

    /// <summary>Elements of a pattern.</summary>
    public int Length { get; } = length;

    /// <summary>Values in [low, high), the same at every call.</summary>
    public ReadOnlySpan<byte> Of<T>(float low, float high) where T : unmanaged, IElement
    {
        if (_blocks.TryGetValue((T.DType, low, high), out byte[]? known)) return known;
        Random random = new(1);
        int size = 1 << T.SizeShift;
        byte[] block = new byte[Length * size];
        for (int offset = 0; offset < block.Length; offset += size)
        {
            uint bits = T.ToBits(low + (random.NextSingle() * (high - low)));
            if (size == 4) MemoryMarshal.Write(block.AsSpan(offset), bits);
            else MemoryMarshal.Write(block.AsSpan(offset), (ushort)bits);
        }
        return _blocks[(T.DType, low, high)] = block;
    }
}
