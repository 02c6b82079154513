using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the kernels that compare each query with its own group only.</summary>
internal struct GroupScoreArguments<T> where T : unmanaged, IElement
{
    /// <summary>Queries [B, dim], passages [B * G, dim], and their gradients.</summary>
    public DeviceMatrix<T> Queries, Passages, QueryGradient, PassageGradient;

    /// <summary>[B, G] and [B].</summary>
    public DevicePointer<FP32> Scores, LogSumExp;

    /// <summary>The gradient of a row's loss.</summary>
    public DeviceScalar RowGradient;

    /// <summary>Sizes.</summary>
    public int GroupSize, Dim;

    /// <summary>What inner products are multiplied with; nonzero where 16-byte accesses are allowed.</summary>
    public float Factor;

    /// <summary>See <see cref="Factor"/>.</summary>
    public int Vectorized;

    /// <summary>Nonzero to add instead of storing.</summary>
    public int AccumulateQueries, AccumulatePassages;
}

/// <summary>The contrastive loss without in-batch negatives: B * G inner products, bound by reading the vectors.</summary>
internal static class GroupScoresKernels
{
    /// <summary>A warp a passage: scores[b, g] = q[b] . p[b * G + g] * factor.</summary>
    [CudaKernel("InfoNce", KernelDirection.Forward, 128)]
    public static void Forward<T>(GroupScoreArguments<T> arguments) where T : unmanaged, IElement
    {
        int member = Grid.IdxY * 4 + (Group.IdxX >> 5);
        if (member >= arguments.GroupSize) return;
        int passage = Grid.IdxX * arguments.GroupSize + member;
        float score = RowDot.Of(arguments.Queries, Grid.IdxX, arguments.Passages, passage, arguments.Dim, arguments.Vectorized) * arguments.Factor;
        if ((Group.IdxX & 31) == 0) arguments.Scores.Store(passage, score);
    }

    /// <summary>A thread takes eight columns of a query and of its group; the query's gradient is added up in binary32, in the group's order.</summary>
    [CudaKernel("InfoNce", KernelDirection.Backward, 128)]
    public static void Backward<T>(GroupScoreArguments<T> arguments) where T : unmanaged, IElement
    {
        int query = Grid.IdxX, column = (Grid.IdxY * 128 + Group.IdxX) * 8, first = query * arguments.GroupSize;
        if (column >= arguments.Dim) return;
        float log = arguments.LogSumExp.Load(query) * DeviceMath.Log2E, gradient = arguments.RowGradient.Load() * arguments.Factor;
        bool vectorized = arguments.Vectorized != 0;
        Float8 q = vectorized ? arguments.Queries.Load8(query, column) : ColumnSum.LoadEdge(arguments.Queries, query, column, arguments.Dim), sum = Float8.All(0);
        for (int g = 0; g < arguments.GroupSize; g++)
        {
            float weight = DeviceMath.Exp2(DeviceMath.Fma(arguments.Scores.Load(first + g), DeviceMath.Log2E, -log));
            weight = (weight - (g == 0 ? 1f : 0f)) * gradient;
            sum += (vectorized ? arguments.Passages.Load8(first + g, column) : ColumnSum.LoadEdge(arguments.Passages, first + g, column, arguments.Dim)) * weight;
            Write(arguments.PassageGradient, first + g, column, arguments.Dim, q * weight, arguments.AccumulatePassages, arguments.Vectorized);
        }
        Write(arguments.QueryGradient, query, column, arguments.Dim, sum, arguments.AccumulateQueries, arguments.Vectorized);
    }

    private static void Write<T>(DeviceMatrix<T> target, int row, int column, int columns, Float8 value, int accumulate, int vectorized) where T : unmanaged, IElement
    {
        if (vectorized != 0)
        {
            target.Store8(row, column, accumulate != 0 ? value + target.Load8(row, column) : value);
            return;
        }
        WriteOne(target, row, column, columns, value.A, accumulate);
        WriteOne(target, row, column + 1, columns, value.B, accumulate);
        WriteOne(target, row, column + 2, columns, value.C, accumulate);
        WriteOne(target, row, column + 3, columns, value.D, accumulate);
        WriteOne(target, row, column + 4, columns, value.E, accumulate);
        WriteOne(target, row, column + 5, columns, value.F, accumulate);
        WriteOne(target, row, column + 6, columns, value.G, accumulate);
        WriteOne(target, row, column + 7, columns, value.H, accumulate);
    }

    private static void WriteOne<T>(DeviceMatrix<T> target, int row, int column, int columns, float value, int accumulate) where T : unmanaged, IElement
    {
        if (column < columns) target.Store(row, column, accumulate != 0 ? value + target.Load(row, column) : value);
    }
}
