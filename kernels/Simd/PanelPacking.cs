using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Transposes up to 32 rows of a matrix into one panel [k][32], the form in which <see cref="Tiles"/> reads its second operand: 4 x 4 blocks are
/// transposed in registers, so that both sides are touched in pieces of 16 bytes.
/// </summary>
internal static unsafe class PanelPacking
{
    /// <summary>panel[i, j] = source[j, i] for i &lt; k and j &lt; rows, and 0 for rows &lt;= j &lt; 32. The stride is in floats.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose(float* source, nint stride, int rows, int k, float* panel)
    {
        int j = 0;
        if (Sse.IsSupported || AdvSimd.Arm64.IsSupported)
            for (; j <= rows - 4; j += 4)
                FourRows(source + (j * stride), stride, k, panel + j);
        for (; j < rows; j++)
            for (int i = 0; i < k; i++)
                panel[((nint)i * Tiles.Columns) + j] = source[(j * stride) + i];
        if (j == Tiles.Columns) return;
        for (int i = 0; i < k; i++, panel += Tiles.Columns)
        {
            int zero = j;
            for (; zero % 4 != 0; zero++) panel[zero] = 0f;
            for (; zero < Tiles.Columns; zero += 4) Vector128<float>.Zero.Store(panel + zero);
        }
    }

    /// <summary>panel[i, j] = source[i, j] for i &lt; rows and j &lt; columns (at most 32), and 0 behind them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Copy(float* source, nint stride, int rows, int columns, float* panel)
    {
        for (int i = 0; i < rows; i++, source += stride, panel += Tiles.Columns)
        {
            int j = 0;
            for (; j <= columns - 4; j += 4) Vector128.Load(source + j).Store(panel + j);
            for (; j < columns; j++) panel[j] = source[j];
            for (; j < Tiles.Columns; j++) panel[j] = 0f;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FourRows(float* source, nint stride, int k, float* panel)
    {
        int i = 0;
        for (; i <= k - 4; i += 4, source += 4, panel += 4 * Tiles.Columns)
        {
            Vector128<float> a = Vector128.Load(source), b = Vector128.Load(source + stride);
            Vector128<float> c = Vector128.Load(source + (2 * stride)), d = Vector128.Load(source + (3 * stride));
            Vector128<float> ac = Low(a, c), bd = Low(b, d), acHigh = High(a, c), bdHigh = High(b, d);
            Low(ac, bd).Store(panel);
            High(ac, bd).Store(panel + Tiles.Columns);
            Low(acHigh, bdHigh).Store(panel + (2 * Tiles.Columns));
            High(acHigh, bdHigh).Store(panel + (3 * Tiles.Columns));
        }
        for (; i < k; i++, source++, panel += Tiles.Columns)
            for (int j = 0; j < 4; j++)
                panel[j] = source[j * stride];
    }

    /// <summary>
    /// result[j, i] = source[i, j] for i &lt; rows and j &lt; columns: the first operand of <see cref="Tiles"/> from a matrix that lies the other way.
    /// Reads 4 columns of all rows at a time, so up to about 500 rows the other columns of a cache line are still there when they are wanted.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void TransposeRows(float* source, nint stride, int rows, int columns, float* result, nint strideResult)
    {
        int j = 0;
        if (Sse.IsSupported || AdvSimd.Arm64.IsSupported)
            for (; j <= columns - 4; j += 4)
                FourColumns(source + j, stride, rows, result + (j * strideResult), strideResult);
        for (; j < columns; j++)
            for (int i = 0; i < rows; i++)
                result[(j * strideResult) + i] = source[(i * stride) + j];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FourColumns(float* source, nint stride, int rows, float* result, nint strideResult)
    {
        int i = 0;
        for (; i <= rows - 4; i += 4, source += 4 * stride, result += 4)
        {
            Vector128<float> a = Vector128.Load(source), b = Vector128.Load(source + stride);
            Vector128<float> c = Vector128.Load(source + (2 * stride)), d = Vector128.Load(source + (3 * stride));
            Vector128<float> ac = Low(a, c), bd = Low(b, d), acHigh = High(a, c), bdHigh = High(b, d);
            Low(ac, bd).Store(result);
            High(ac, bd).Store(result + strideResult);
            Low(acHigh, bdHigh).Store(result + (2 * strideResult));
            High(acHigh, bdHigh).Store(result + (3 * strideResult));
        }
        for (; i < rows; i++, source += stride, result++)
            for (int j = 0; j < 4; j++)
                result[j * strideResult] = source[j];
    }

    /// <summary>a0, b0, a1, b1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Low(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackLow(a, b) : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipLow(a, b)
        : Vector128.Create(a.GetElement(0), b.GetElement(0), a.GetElement(1), b.GetElement(1));

    /// <summary>a2, b2, a3, b3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> High(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackHigh(a, b) : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipHigh(a, b)
        : Vector128.Create(a.GetElement(2), b.GetElement(2), a.GetElement(3), b.GetElement(3));
}
