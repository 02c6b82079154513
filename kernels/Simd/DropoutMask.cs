using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Inverted dropout: element (row, column) of stream s is kept, and multiplied by 1 / (1 - probability), when word column mod 4 of the
/// <see cref="Philox"/> counter (column / 4, row, s, 0) under the seed is at least probability * 2^32; else it becomes 0. A mask is a function of
/// these numbers alone, so it is made again where it is needed instead of being stored.
/// </summary>
internal readonly unsafe struct DropoutMask
{
    /// <summary>Floats behind the wanted ones that may be written.</summary>
    public const int Excess = 15;

    private readonly ulong _seed;
    private readonly uint _stream;
    private readonly uint _firstRow;
    private readonly uint _threshold;
    private readonly uint _keepBits;

    /// <summary>The mask of one stream, from row <paramref name="firstRow"/> on: row r of the other methods is row firstRow + r of the whole mask.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The probability is not in [0, 1).</exception>
    public DropoutMask(float probability, ulong seed, uint stream, int firstRow = 0)
    {
        Check(probability);
        _seed = seed;
        _stream = stream;
        _firstRow = (uint)firstRow;
        _threshold = (uint)Math.Min(Math.Round(probability * 4294967296.0), uint.MaxValue);
        _keepBits = BitConverter.SingleToUInt32Bits((float)(1 / (1 - (double)probability)));
    }

    /// <summary>Refuses what is no probability, and 1, which would leave nothing.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The probability is not in [0, 1).</exception>
    public static void Check(float probability)
    {
        if (!(probability >= 0f && probability < 1f))
            throw new ArgumentOutOfRangeException(nameof(probability), probability, "the probability of dropout must be at least 0 and below 1");
    }

    /// <summary>
    /// factors[j] = 0 or 1 / (1 - p) of (row, column + j) for j &lt; count; up to <see cref="Excess"/> floats behind the last are written too.
    /// <paramref name="column"/> is a multiple of 4.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization), SkipLocalsInit]
    public void Row(uint row, uint column, int count, float* factors)
    {
        ulong* words = stackalloc ulong[4 * Philox.Count];
        for (int j = 0; j < count; j += 4 * Philox.Count)
        {
            Philox.Sixteen((column + (uint)j) / 4, 1, _firstRow + row, 0, _stream, 0, _seed, words);
            float* block = factors + j;
            for (int i = 0; i < Philox.Count && j + (4 * i) < count; i += 4, block += 16)
            {
                Vector128<float> a = Four(words + i), b = Four(words + Philox.Count + i);
                Vector128<float> c = Four(words + (2 * Philox.Count) + i), d = Four(words + (3 * Philox.Count) + i);
                Vector128<float> ac = PanelPacking.Low(a, c), bd = PanelPacking.Low(b, d), acHigh = PanelPacking.High(a, c), bdHigh = PanelPacking.High(b, d);
                PanelPacking.Low(ac, bd).Store(block);
                PanelPacking.High(ac, bd).Store(block + 4);
                PanelPacking.Low(acHigh, bdHigh).Store(block + 8);
                PanelPacking.High(acHigh, bdHigh).Store(block + 12);
            }
        }
    }

    /// <summary>
    /// factors[c * stride + i] = the factor of (row + i, column + c) for c &lt; 4 and i &lt; count: four columns of the mask, lying. Up to
    /// <see cref="Excess"/> floats behind the last of each are written too. <paramref name="column"/> is a multiple of 4.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization), SkipLocalsInit]
    public void FourColumns(uint row, int count, uint column, float* factors, nint stride)
    {
        ulong* words = stackalloc ulong[4 * Philox.Count];
        for (int i = 0; i < count; i += Philox.Count)
        {
            Philox.Sixteen(column / 4, 0, _firstRow + row + (uint)i, 1, _stream, 0, _seed, words);
            for (int c = 0; c < 4; c++)
                for (int lane = 0; lane < Philox.Count; lane += 4)
                    Four(words + (c * Philox.Count) + lane).Store(factors + (c * stride) + i + lane);
        }
    }

    // The factors of four words that lie in 64-bit lanes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector128<float> Four(ulong* words)
    {
        Vector128<uint> four = Vector128.Narrow(Vector128.Load(words), Vector128.Load(words + 2));
        return (Vector128.GreaterThanOrEqual(four, Vector128.Create(_threshold)) & Vector128.Create(_keepBits)).AsSingle();
    }
}
