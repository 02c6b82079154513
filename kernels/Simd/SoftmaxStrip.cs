using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Online softmax (Milakov and Gimelshein, arXiv:1805.02867) over a strip of attention scores that arrives in blocks of keys: for each row the largest
/// score and the sum of exponentials so far, and the factor by which earlier partial results shrink when the largest score grows. Sums run in the order
/// column mod 16, then the tree of <see cref="ILanes{T}"/>.
/// </summary>
internal static unsafe class SoftmaxStrip
{
    /// <summary>
    /// For up to 12 rows: scores[r, j] = 2^(factor * (scores[r, j] - max)) for j &lt; count, with max[r], sum[r] and shrink[r] brought up to date. Columns from count up to
    /// the next multiple of 16 are overwritten. Start with max = -infinity and sum = 0.
    /// </summary>
    public static void Exponentials(float* scores, nint stride, int rows, int count, float factor, float* max, float* sum, float* shrink)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Exponentials<Lanes512>(scores, stride, rows, count, factor, max, sum, shrink); break;
            case VectorWidth.Bits256: Exponentials<Lanes256>(scores, stride, rows, count, factor, max, sum, shrink); break;
            default: Exponentials<Lanes128>(scores, stride, rows, count, factor, max, sum, shrink); break;
        }
    }

    /// <summary>
    /// output = output * shrink + partial, or just partial when this is the <paramref name="first"/> block of keys; divided by sum after the
    /// <paramref name="last"/> one.
    /// </summary>
    public static void Merge(float* partial, nint stride, int rows, int columns, bool first, bool last, float* shrink, float* sum, float* output,
        nint strideOutput)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512: Merge<Lanes512>(partial, stride, rows, columns, first, last, shrink, sum, output, strideOutput); break;
            case VectorWidth.Bits256: Merge<Lanes256>(partial, stride, rows, columns, first, last, shrink, sum, output, strideOutput); break;
            default: Merge<Lanes128>(partial, stride, rows, columns, first, last, shrink, sum, output, strideOutput); break;
        }
    }

    private static void Exponentials<T>(float* scores, nint stride, int rows, int count, float factor, float* max, float* sum, float* shrink)
        where T : unmanaged, ILanes<T>
    {
        float* largest = stackalloc float[Tiles.MaxRows];
        float* totals = stackalloc float[Tiles.MaxRows];
        LargestOfRows<T>(scores, stride, rows, count, max, largest);
        ExponentialsOfRows<T>(scores, stride, rows, count, factor, largest, totals);
        for (int r = 0; r < rows; r++)
        {
            float less = float.IsNegativeInfinity(max[r]) ? 0f : MathF.Exp((max[r] - largest[r]) * (factor / VectorMath.Log2E));
            max[r] = largest[r];
            sum[r] = VectorUnit.MultiplyAdd(sum[r], less, totals[r]);
            shrink[r] = less;
        }
    }

    // The next two are methods of their own, with no call in them: a call anywhere in a method makes its running maximum or sum live in memory.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void LargestOfRows<T>(float* scores, nint stride, int rows, int count, float* atLeast, float* largest) where T : unmanaged, ILanes<T>
    {
        for (int r = 0; r < rows; r++, scores += stride)
        {
            for (int j = count; j % Lanes.Count != 0; j++) scores[j] = float.NegativeInfinity;
            T most = T.Load(scores);
            for (int j = Lanes.Count; j < count; j += Lanes.Count) most = T.Max(most, T.Load(scores + j));
            float found = T.Largest(most);
            largest[r] = atLeast[r] > found ? atLeast[r] : found;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void ExponentialsOfRows<T>(float* scores, nint stride, int rows, int count, float factor, float* largest, float* totals)
        where T : unmanaged, ILanes<T>
    {
        T scale = T.Create(factor);
        for (int r = 0; r < rows; r++, scores += stride)
        {
            T offset = T.Create(-(largest[r] * factor)), total = T.Create(0f);
            for (int j = 0; j < count; j += Lanes.Count)
            {
                T e = VectorMath.Exp2(T.MultiplyAdd(T.Load(scores + j), scale, offset));
                T.Store(e, scores + j);
                total += e;
            }
            totals[r] = T.Sum(total);
        }
    }

    // The tail of a row whose length is no multiple of 16 repeats the vector code's operations one by one, so that no bit depends on a column's place.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Merge<T>(float* partial, nint stride, int rows, int columns, bool first, bool last, float* shrink, float* sum, float* output,
        nint strideOutput) where T : unmanaged, ILanes<T>
    {
        for (int r = 0; r < rows; r++, partial += stride, output += strideOutput)
        {
            float less = shrink[r], inverse = last ? 1f / sum[r] : 1f;
            T lessLanes = T.Create(less), inverseLanes = T.Create(inverse);
            int i = 0;
            for (; i <= columns - Lanes.Count; i += Lanes.Count)
            {
                T value = T.Load(partial + i);
                if (!first) value = T.MultiplyAdd(T.Load(output + i), lessLanes, value);
                T.Store(value * inverseLanes, output + i);
            }
            for (; i < columns; i++)
            {
                float value = partial[i];
                if (!first) value = VectorUnit.MultiplyAdd(output[i], less, value);
                output[i] = value * inverse;
            }
        }
    }
}
