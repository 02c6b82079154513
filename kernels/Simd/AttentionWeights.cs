using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>The elementwise step of attention's backward pass, on strips that lie keys by queries, so that a query's numbers are vectors.</summary>
internal static unsafe class AttentionWeights
{
    /// <summary>
    /// With p = 2^(factor * scores - log[j]) and f the factor of dropout (1 where <paramref name="mask"/> is null), for r &lt; rows and j &lt; columns:
    /// gradients = p * (gradients * f - delta[j]) * scale, then scores = p * f. The columns are a multiple of 16.
    /// </summary>
    public static void Backward(
        float* scores, float* gradients, float* mask, nint stride, int rows, int columns, float factor, float* log, float* delta, float scale)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Backward<Lanes512>(scores, gradients, mask, stride, rows, columns, factor, log, delta, scale); break;
            case VectorWidth.Bits256: Backward<Lanes256>(scores, gradients, mask, stride, rows, columns, factor, log, delta, scale); break;
            default: Backward<Lanes128>(scores, gradients, mask, stride, rows, columns, factor, log, delta, scale); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Backward<T>(
        float* scores, float* gradients, float* mask, nint stride, int rows, int columns, float factor, float* log, float* delta, float scale)
        where T : unmanaged, ILanes<T>
    {
        T slope = T.Create(factor), outer = T.Create(scale);
        for (int r = 0; r < rows; r++, scores += stride, gradients += stride)
        {
            float* kept = mask == null ? null : mask + (r * stride);
            for (int j = 0; j < columns; j += Lanes.Count)
            {
                T p = VectorMath.Exp2((T.Load(scores + j) * slope) - T.Load(log + j));
                T gradient = T.Load(gradients + j), dropped = p;
                if (kept != null)
                {
                    gradient *= T.Load(kept + j);
                    dropped *= T.Load(kept + j);
                }
                T.Store(p * (gradient - T.Load(delta + j)) * outer, gradients + j);
                T.Store(dropped, scores + j);
            }
        }
    }
}
