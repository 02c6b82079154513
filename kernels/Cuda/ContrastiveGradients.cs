using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The backward pass of <see cref="InfoNce"/>, a strip of passages at a time: weights = softmax(q p^T) - one at the right passage, in the element type; then
/// dq += weights p in binary32 and dp = weights^T q. The strip is as long as the workspace allows, and at best short enough to stay in the second-level cache
/// between its three matrix products.
/// </summary>
internal readonly record struct ContrastiveGradients<T>(KernelDevice Device, DeviceMatrix<T> Queries, DeviceMatrix<T> Passages, ScoreTargets Targets,
    DevicePointer<FP32> LogSumExp, int Count, int PassageCount, int Dim, float Factor, DeviceScalar RowGradient) where T : unmanaged, IElement
{
    /// <summary>Enqueues everything; dq or dp may be absent.</summary>
    /// <exception cref="ArgumentException">The workspace is too small.</exception>
    public void Run(DeviceMatrix<T> dq, bool accumulateQueries, DeviceMatrix<T> dp, bool accumulatePassages, Workspace workspace)
    {
        long sums = dq.IsNull ? 0 : ((long)Count * Dim + 63) & ~63L;
        (int strip, long weightsLength) = Strip(workspace.Length - sums);
        DevicePointer<FP32> dqSums = workspace.Start;
        DeviceMatrix<T> weights = new(new DevicePointer<T>(workspace.Start.At(sums)), strip);
        Workspace rest = new(new DevicePointer<FP32>(workspace.Start.At(sums + weightsLength)), workspace.Length - sums - weightsLength);
        DeviceScalar scale = RowGradient * (Factor / ContrastiveWeights<T>.Unit);
        if (!dq.IsNull) Device.Fill(dqSums.Address, 0, sums * sizeof(float));
        for (int first = 0; first < PassageCount; first += strip)
        {
            int columns = Math.Min(strip, PassageCount - first), padded = (columns + 7) & ~7;
            DeviceMatrix<T> passages = From(Passages, first);
            // The products read weights in pieces of 8 columns.
            if (padded != columns) Device.Fill(weights.Start.Address, 0, (long)Count * strip << T.SizeShift);
            GemmPlan.Choose<T, Nt>(Device, Count, columns, Dim, Queries, passages, default).Run<T, Nt, ContrastiveWeights<T>>(
                new(weights, LogSumExp, new(Targets.Columns, Targets.Step, Targets.First + first), Factor * DeviceMath.Log2E));
            if (!dq.IsNull)
                (GemmPlan.Choose<T, Nn>(Device, Count, Dim, padded, weights, passages, rest) with { K = columns })
                    .Run<T, Nn, WeightGradientOutput>(new(new DeviceMatrix<FP32>(dqSums, Dim)));
            if (!dp.IsNull)
                (GemmPlan.Choose<T, Tn>(Device, padded, Dim, Count, weights, Queries, rest) with { M = columns })
                    .Run<T, Tn, ScaledOutput<T>>(new(From(dp, first), scale, accumulatePassages));
        }
        if (!dq.IsNull) AddScaled.Run(Device, new DeviceMatrix<FP32>(dqSums, Dim), Count, Dim, scale, accumulateQueries, dq);
    }

    private (int Columns, long Length) Strip(long available)
    {
        int all = (PassageCount + 7) & ~7, columns = Math.Min(all, InfoNce.StripOf(Count));
        long fitting = (available - 64) * sizeof(float) / ((long)Count << T.SizeShift);
        if (fitting < columns) columns = (int)(fitting & ~127L);
        if (columns <= 0)
            throw new ArgumentException($"a workspace of {InfoNce.LeastWorkspace(Count, Dim)} elements is needed for {Count} queries of {Dim}", nameof(available));
        return (columns, ((((long)Count * columns) << T.SizeShift) / sizeof(float) + 64) & ~63L);
    }

    private static DeviceMatrix<T> From(DeviceMatrix<T> matrix, int row) => new(new DevicePointer<T>(matrix.Start.At(row * matrix.Stride)), matrix.Stride);
}
