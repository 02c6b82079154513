using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>The largest value of each column of a matrix that arrives in strips of rows, and the row it stands in.</summary>
internal static unsafe class ColumnMaxima
{
    /// <summary>
    /// Brings max[j] and row[j] up to date with scores[r, j] for r &lt; rows, whose rows count from <paramref name="firstRow"/>; of equal values the first row
    /// counts. Row numbers are floats, exact below 2^24. trouble[j] stays 0 as long as all scores of the column are finite, and is NaN from then on. The columns
    /// are a multiple of 16. Start with max = -infinity, row = 0, trouble = 0.
    /// </summary>
    public static void Update(float* scores, nint stride, int rows, int columns, int firstRow, float* max, float* row, float* trouble)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Update<Lanes512>(scores, stride, rows, columns, firstRow, max, row, trouble); break;
            case VectorWidth.Bits256: Update<Lanes256>(scores, stride, rows, columns, firstRow, max, row, trouble); break;
            default: Update<Lanes128>(scores, stride, rows, columns, firstRow, max, row, trouble); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Update<T>(float* scores, nint stride, int rows, int columns, int firstRow, float* max, float* row, float* trouble) where T : unmanaged, ILanes<T>
    {
        T one = T.Create(1f), zero = T.Create(0f);
        for (int j = 0; j < columns; j += Lanes.Count)
        {
            T most = T.Load(max + j), at = T.Load(row + j), bad = T.Load(trouble + j), index = T.Create(firstRow);
            float* column = scores + j;
            for (int r = 0; r < rows; r++, column += stride)
            {
                T value = T.Load(column);
                at = T.SelectLess(most, value, index, at);
                most = T.SelectLess(most, value, value, most);
                bad = T.MultiplyAdd(value, zero, bad);
                index += one;
            }
            T.Store(most, max + j);
            T.Store(at, row + j);
            T.Store(bad, trouble + j);
        }
    }
}
