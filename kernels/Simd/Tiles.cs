using System.Runtime.CompilerServices;

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

    // How many rows to take next when 1..23 are left: cuts into tiles high enough to keep both multiply-add units busy (8 rows + 8 rows rather than 12 + 4).
    private static ReadOnlySpan<byte> NextRows => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 8, 10, 8, 12, 12, 10, 10, 12, 12, 12];

    /// <summary>The number of rows to compute next when <paramref name="remaining"/> (at least 1) rows are left: 1..<see cref="MaxRows"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Next(int remaining) => remaining >= 24 ? MaxRows : NextRows[remaining];

    /// <summary>
    /// c[i, j] = start[j] + sum over k of a[i, k] * b[k, j], for i &lt; rows (1..12) and j &lt; 32. Strides in floats; k is at least 1; 32 floats of
    /// <paramref name="start"/> and of each row of <paramref name="b"/> are read and 32 floats of each row of <paramref name="c"/> are written.
    /// </summary>
    public static void Multiply(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Multiply512(rows, a, lda, b, ldb, k, c, ldc, start); break;
            case VectorWidth.Bits256: MultiplyNarrow<Tile256, System.Runtime.Intrinsics.Vector256<float>>(rows, a, lda, b, ldb, k, c, ldc, start); break;
            default: MultiplyNarrow<Tile128, System.Runtime.Intrinsics.Vector128<float>>(rows, a, lda, b, ldb, k, c, ldc, start); break;
        }
    }

    private static void Multiply512(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start)
    {
        while (rows > 0)
        {
            int height = Piece(rows, 12);
            Run<Tile512, System.Runtime.Intrinsics.Vector512<float>>(height, a, lda, b, ldb, k, c, ldc, start);
            rows -= height;
            a += height * lda;
            c += height * ldc;
        }
    }

    private static void MultiplyNarrow<TWidth, TVector>(int rows, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        while (rows > 0)
        {
            int height = Piece(rows, 6);
            for (int j = 0; j < Columns; j += 2 * TWidth.Count)
                Run<TWidth, TVector>(height, a, lda, b + j, ldb, k, c + j, ldc, start + j);
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

    private static void Run<TWidth, TVector>(int height, float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        switch (height)
        {
            case 12: TileRows.Rows12<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 10: TileRows.Rows10<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 8: TileRows.Rows8<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 6: TileRows.Rows6<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 5: TileRows.Rows5<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 4: TileRows.Rows4<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 3: TileRows.Rows3<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            case 2: TileRows.Rows2<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
            default: TileRows.Rows1<TWidth, TVector>(a, lda, b, ldb, k, c, ldc, start); break;
        }
    }
}
