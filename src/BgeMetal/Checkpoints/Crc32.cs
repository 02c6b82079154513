using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Checkpoints;

/// <summary>
/// The CRC-32 of zip files (polynomial 0x04C11DB7, reflected). With carry-less multiplication it folds 64 bytes at a time (Gopal et al., "Fast CRC
/// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009), so checking a weight file costs less than reading it; elsewhere
/// eight tables take 8 bytes at a time.
/// </summary>
internal static class Crc32
{
    private const uint Polynomial = 0xEDB88320;
    private static readonly uint[] Tables = MakeTables();

    /// <summary>The CRC of everything before, continued over <paramref name="bytes"/>; start with 0.</summary>
    internal static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        uint state = ~crc;
        if (Pclmulqdq.IsSupported && bytes.Length >= 64)
        {
            int folded = bytes.Length & ~15;
            state = Fold(state, bytes[..folded]);
            bytes = bytes[folded..];
        }
        return ~AppendWithTables(state, bytes);
    }

    /// <summary>The portable path, on the inverted state.</summary>
    internal static uint AppendWithTables(uint state, ReadOnlySpan<byte> bytes)
    {
        uint[] tables = Tables;
        for (; bytes.Length >= 8; bytes = bytes[8..])
        {
            uint low = BinaryPrimitives.ReadUInt32LittleEndian(bytes) ^ state, high = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
            state = tables[(7 * 256) + (low & 255)] ^ tables[(6 * 256) + ((low >> 8) & 255)] ^ tables[(5 * 256) + ((low >> 16) & 255)] ^ tables[(4 * 256) + (low >> 24)]
                ^ tables[(3 * 256) + (high & 255)] ^ tables[(2 * 256) + ((high >> 8) & 255)] ^ tables[256 + ((high >> 16) & 255)] ^ tables[high >> 24];
        }
        foreach (byte value in bytes) state = (state >> 8) ^ tables[(state ^ value) & 255];
        return state;
    }

    // Optimised at once: weights are read in the first second of a process, before the runtime would come round to it.
    // The constants are x^n mod P for the folding distances, bit-reflected, as tabulated in the paper. Length: a multiple of 16, at least 64.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static uint Fold(uint state, ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<Vector128<ulong>> blocks = MemoryMarshal.Cast<byte, Vector128<ulong>>(bytes);
        Vector128<ulong> x0 = blocks[0] ^ Vector128.CreateScalar(state).AsUInt64(), x1 = blocks[1], x2 = blocks[2], x3 = blocks[3];
        Vector128<ulong> by64 = Vector128.Create(0x0154442bd4UL, 0x01c6e41596UL), by16 = Vector128.Create(0x01751997d0UL, 0x00ccaa009eUL);
        for (blocks = blocks[4..]; blocks.Length >= 4; blocks = blocks[4..])
        {
            x0 = Step(x0, by64) ^ blocks[0];
            x1 = Step(x1, by64) ^ blocks[1];
            x2 = Step(x2, by64) ^ blocks[2];
            x3 = Step(x3, by64) ^ blocks[3];
        }
        x0 = Step(x0, by16) ^ x1;
        x0 = Step(x0, by16) ^ x2;
        x0 = Step(x0, by16) ^ x3;
        foreach (Vector128<ulong> block in blocks) x0 = Step(x0, by16) ^ block;

        // The 128 bits left are themselves a message of 16 bytes that starts from state 0.
        Span<byte> rest = stackalloc byte[16];
        x0.AsByte().CopyTo(rest);
        return AppendWithTables(0, rest);
    }

    private static Vector128<ulong> Step(Vector128<ulong> value, Vector128<ulong> constants) =>
        Pclmulqdq.CarrylessMultiply(value, constants, 0x00) ^ Pclmulqdq.CarrylessMultiply(value, constants, 0x11);

    private static uint[] MakeTables()
    {
        uint[] tables = new uint[8 * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++) value = (value & 1) != 0 ? (value >> 1) ^ Polynomial : value >> 1;
            tables[i] = value;
        }
        for (int i = 256; i < tables.Length; i++) tables[i] = (tables[i - 256] >> 8) ^ tables[tables[i - 256] & 255];
        return tables;
    }
}
