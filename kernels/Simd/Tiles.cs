using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// The 32-column tile of a matrix product for the width in use: c[rows, 32] = start + a[rows, k] * b[k, 32]. 512-bit code runs it in one piece of up to
/// 12 rows; narrower registers cut it into pieces of 6 rows by 16 or 8 columns, which is what 16 registers hold. An element's value does not depend on
/// how the tile is cut (see <see cref="TileRows"/>).
/// </summary>
internal static unsafe class Tiles
{
    /// <summary>Columns of a tile and of a packed panel.</summary>
    public const int Columns = 32;

    /// <summary>The most rows of one call.</summary>
    public const int MaxRows = 12;

    // How many rows to take next when 0..23 are left: cuts into tiles high enough to keep both multiply-add units busy, 16 = 8 + 8 rather than 12 + 4;
    // with narrow registers, whose pieces have up to 6 rows, 16 = 10 + 6 = 5 + 5 + 6.
    private static ReadOnlySpan<byte> NextRowsNarrow => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 9, 9, 10, 10, 12, 12, 10, 10, 12, 12, 12];

    private static ReadOnlySpan<byte> NextRows => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 8, 10, 8, 12, 12, 10, 10, 12, 12, 12];

    /// <summary>The number of rows to compute next when <paramref name="remaining"/> (at least 1) rows are left: 1..<see cref="MaxRows"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Next(int remaining) =>
        remaining >= 24 ? MaxRows : VectorUnit.Width == VectorWidth.Bits512 ? NextRows[remaining] : NextRowsNarrow[remaining];

    /// <summary>
    /// c[i, j] = start[j] + sum over k of a[i, k] * b[k, j], for i &lt; rows (1..12) and j &lt; 32. Strides in floats; k is at least 1; 32 floats of
    /// <paramref name="start"/> and of each row of <paramref name="b"/> are read and 32 floats of each row of <paramref name="c"/> are written.
    /// From <paramref name="ahead"/> on, k cache lines are prefetched into the second-level cache; null for nothing.
    /// </summary>
    public static void Multiply(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, void* ahead = null)
    {
        byte* next = ahead == null ? (byte*)b : (byte*)ahead;
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Multiply512(rows, a, lda, b, ldb, k, c, ldc, start, next); break;
            case VectorWidth.Bits256: MultiplyNarrow<Tile256, Vector256<float>>(rows, a, lda, b, ldb, k, c, ldc, start, next); break;
            default: MultiplyNarrow<Tile128, Vector128<float>>(rows, a, lda, b, ldb, k, c, ldc, start, next); break;
        }
    }

    private static void Multiply512(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
    {
        int height = Piece(rows, 12);
        Run<Tile512, Vector512<float>>(height, a, lda, b, ldb, k, c, ldc, start, ahead);
        if (height == rows) return;
        Run<Tile512, Vector512<float>>(rows - height, a + (height * lda), lda, b, ldb, k, c + (height * ldc), ldc, start, ahead);
    }

    private static void MultiplyNarrow<TWidth, TVector>(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        while (rows > 0)
        {
            int height = Piece(rows, 6);
            for (int j = 0; j < Columns; j += 2 * TWidth.Count)
                Run<TWidth, TVector>(height, a, lda, b + j, ldb, k, c + j, ldc, start + j, ahead);
            rows -= height;
            a += height * lda;
            c += height * ldc;
        }
    }

    // The heights that have a method are 12, 10, 8, 6, 5, 4, 3, 2, 1; 7 = 4 + 3, 9 = 5 + 4, 11 = 6 + 5.
    private static int Piece(int rows, int most) => rows switch
    {
        7 => 4,
        9 => 5,
        11 => 6,
        _ => most == 12 ? rows : rows switch { 8 => 4, 10 => 5, 12 => 6, _ => rows },
    };

    private static void Run<TWidth, TVector>(int height, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        switch (height)
        {
            case 12: TileRows.Rows12<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 10: TileRows.Rows10<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 8: TileRows.Rows8<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 6: TileRows.Rows6<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 5: TileRows.Rows5<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 4: TileRows.Rows4<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 3: TileRows.Rows3<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            case 2: TileRows.Rows2<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
            default: TileRows.Rows1<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start, ahead); break;
        }
    }
}
