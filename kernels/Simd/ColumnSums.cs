using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>Sums down the columns of a block, each column in the order of its rows.</summary>
internal static unsafe class ColumnSums
{
    /// <summary>sums[j] += (x[0, j] + x[1, j] + ...), the bracket first.</summary>
    public static void Add(float* x, nint stride, int rows, int columns, float* sums)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Add<Lanes512>(x, stride, rows, columns, sums); break;
            case VectorWidth.Bits256: Add<Lanes256>(x, stride, rows, columns, sums); break;
            default: Add<Lanes128>(x, stride, rows, columns, sums); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add<T>(float* x, nint stride, int rows, int columns, float* sums) where T : unmanaged, ILanes<T>
    {
        int j = 0;
        for (; j <= columns - (2 * Lanes.Count); j += 2 * Lanes.Count)
        {
            T a = T.Create(0f), b = a;
            float* row = x + j;
            for (int r = 0; r < rows; r++, row += stride)
            {
                a += T.Load(row);
                b += T.Load(row + Lanes.Count);
            }
            T.Store(T.Load(sums + j) + a, sums + j);
            T.Store(T.Load(sums + j + Lanes.Count) + b, sums + j + Lanes.Count);
        }
        for (; j < columns; j++)
        {
            float sum = 0f;
            for (int r = 0; r < rows; r++) sum += x[(r * stride) + j];
            sums[j] += sum;
        }
    }
}
