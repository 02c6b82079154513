using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Which keys a query sees, a bit a key: bit j % 64 of word j / 64 of its row. Hidden scores become <see cref="Hidden"/>, whose exponential beside any
/// real score is exactly 0.
/// </summary>
internal static unsafe class VisibleBits
{
    /// <summary>The score of a hidden key: -2^100. Finite, so that a block without a visible key is no NaN; a power of two, so that scaling is exact.</summary>
    public const float Hidden = -1.2676506002282294e30f;

    /// <summary>Words of a row of so many keys.</summary>
    public static int Words(int keys) => (keys + 63) / 64;

    /// <summary>Overwrites the scores whose bit is 0. Bits and scores start together; scores are written up to the next multiple of 8.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Hide(float* scores, int count, ulong* bits)
    {
        Vector256<int> places = Vector256.Create(1, 2, 4, 8, 16, 32, 64, 128);
        Vector256<float> hidden = Vector256.Create(Hidden);
        byte* octets = (byte*)bits;                       // little-endian, as every target is
        for (int j = 0; j < count; j += 8)
        {
            Vector256<int> isHidden = Vector256.Equals(Vector256.Create((int)octets[j / 8]) & places, Vector256<int>.Zero);
            Vector256.Store(Vector256.ConditionalSelect(isHidden.AsSingle(), hidden, Vector256.Load(scores + j)), scores + j);
        }
    }

    /// <summary>
    /// Rows <paramref name="firstRow"/> .. + <paramref name="rows"/> by <paramref name="columns"/> bits to columns by rows: row j of the result has
    /// <paramref name="resultWords"/> words, at least rows / 64 rounded up. Bits behind the last row are 0.
    /// </summary>
    public static void Transpose(ulong* bits, int firstRow, int rows, int columns, ulong* result, int resultWords)
    {
        ulong* block = stackalloc ulong[64];
        int words = Words(columns);
        for (int i = 0; i < rows; i += 64)
        {
            for (int w = 0; w < words; w++)
            {
                int present = Math.Min(64, rows - i);
                for (int r = 0; r < present; r++) block[r] = bits[((nint)(firstRow + i + r) * words) + w];
                new Span<ulong>(block + present, 64 - present).Clear();
                TransposeBlock(block);
                int kept = Math.Min(64, columns - (w * 64));
                for (int c = 0; c < kept; c++) result[((nint)((w * 64) + c) * resultWords) + (i / 64)] = block[c];
            }
        }
    }

    // Swaps ever smaller off-diagonal squares (Warren, Hacker's Delight, section 7-3), with bit 0 as the first column.
    private static void TransposeBlock(ulong* block)
    {
        ulong mask = 0x00000000FFFFFFFF;
        for (int size = 32; size != 0; size >>= 1, mask ^= mask << size)
        {
            for (int row = 0; row < 64; row = (row + size + 1) & ~size)
            {
                ulong swapped = ((block[row] >> size) ^ block[row + size]) & mask;
                block[row + size] ^= swapped;
                block[row] ^= swapped << size;
            }
        }
    }
}
