using System.Runtime.InteropServices;

namespace BgeMetal.Checkpoints;

/// <summary>
/// Reads a contiguous run of f32, f16 or bf16 elements into floats without a second buffer: f32 bytes go straight to their place, 16-bit elements
/// go to the upper half of the chunk they will fill and are widened from there, front to back, which never overtakes what is still to be read.
/// Files are little-endian, as is every machine this program runs on.
/// </summary>
internal static class FloatReader
{
    // 16-bit chunks stay in the level 2 cache between the read and the widening; f32 chunks only bound the size of one system call.
    private const int NarrowChunk = 1 << 16, WideChunk = 1 << 24;

    /// <summary>Reads <paramref name="destination"/>.Length elements from byte <paramref name="offset"/> on.</summary>
    internal static void Read(TensorBytes source, string storageType, long offset, Span<float> destination)
    {
        bool wide = storageType == StorageType.F32;
        int chunkSize = wide ? WideChunk : NarrowChunk;
        while (!destination.IsEmpty)
        {
            Span<float> chunk = destination[..Math.Min(chunkSize, destination.Length)];
            Span<byte> bytes = MemoryMarshal.AsBytes(chunk);
            if (wide)
            {
                source.Read(offset, bytes);
                offset += bytes.Length;
            }
            else
            {
                Span<byte> upper = bytes[(bytes.Length / 2)..];
                source.Read(offset, upper);
                Widen(storageType, MemoryMarshal.Cast<byte, ushort>(upper), chunk);
                offset += upper.Length;
            }
            destination = destination[chunk.Length..];
        }
    }

    /// <summary>Widens 16-bit elements; the source may be the upper half of the destination's own memory.</summary>
    internal static void Widen(string storageType, ReadOnlySpan<ushort> source, Span<float> destination)
    {
        if (storageType == StorageType.BF16) HalfPrecision.FromBFloat16(source, destination);
        else HalfPrecision.FromFloat16(source, destination);
    }
}
