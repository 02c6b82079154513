using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>From scores to probabilities where the logarithm of the sum of exponentials is known.</summary>
internal static unsafe class SoftmaxGradient
{
    /// <summary>x[r, j] = 2^(factor * x[r, j] - log[r]) * scale: one row, one logarithm.</summary>
    public static void ByRow(float* x, nint stride, int rows, int columns, float factor, float* log, float scale)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: ByRow<Lanes512>(x, stride, rows, columns, factor, log, scale); break;
            case VectorWidth.Bits256: ByRow<Lanes256>(x, stride, rows, columns, factor, log, scale); break;
            default: ByRow<Lanes128>(x, stride, rows, columns, factor, log, scale); break;
        }
    }

    /// <summary>x[r, j] = 2^(factor * x[r, j] + offset[r] - log[j]) * scale: one column, one logarithm. The columns are a multiple of 16.</summary>
    public static void ByColumn(float* x, nint stride, int rows, int columns, float factor, float* offset, float* log, float scale)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: ByColumn<Lanes512>(x, stride, rows, columns, factor, offset, log, scale); break;
            case VectorWidth.Bits256: ByColumn<Lanes256>(x, stride, rows, columns, factor, offset, log, scale); break;
            default: ByColumn<Lanes128>(x, stride, rows, columns, factor, offset, log, scale); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ByRow<T>(float* x, nint stride, int rows, int columns, float factor, float* log, float scale) where T : unmanaged, ILanes<T>
    {
        int padded = (columns + Lanes.Count - 1) / Lanes.Count * Lanes.Count;
        for (int r = 0; r < rows; r++, x += stride)
        {
            T slope = T.Create(factor), shift = T.Create(log[r]), outer = T.Create(scale);
            for (int j = 0; j < padded; j += Lanes.Count) T.Store(VectorMath.Exp2((T.Load(x + j) * slope) - shift) * outer, x + j);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ByColumn<T>(float* x, nint stride, int rows, int columns, float factor, float* offset, float* log, float scale)
        where T : unmanaged, ILanes<T>
    {
        for (int r = 0; r < rows; r++, x += stride)
        {
            T slope = T.Create(factor), start = T.Create(offset[r]), outer = T.Create(scale);
            for (int j = 0; j < columns; j += Lanes.Count)
                T.Store(VectorMath.Exp2(T.MultiplyAdd(T.Load(x + j), slope, start) - T.Load(log + j)) * outer, x + j);
        }
    }
}
