using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The backward pass of <see cref="InfoNce"/>, a strip of passages at a time: weights = softmax(q p^T) - one at the right passage, in the element type; then
/// dq += weights p, whose sums gather in binary32, and dp = weights^T q. The strip is as long as the workspace allows, and at best short enough to stay in the second-level cache
/// between its three matrix products.
/// </summary>
internal readonly record struct ContrastiveGradients<T>(KernelDevice Device, DeviceMatrix<T> Queries, DeviceMatrix<T> Passages, ScoreTargets Targets,
    DevicePointer<FP32> LogSumExp, int Count, int PassageCount, int Dim, float Factor, DeviceScalar RowGradient) where T : unmanaged, IElement
{
    /// <summary>Enqueues everything; dq or dp may be absent.</summary>
    /// <exception cref="ArgumentException">The workspace is too small.</exception>
    public void Run(DeviceMatrix<T> dq, bool accumulateQueries, DeviceMatrix<T> dp, bool accumulatePassages, Workspace workspace)
    {
        int strip = Strip(workspace.Length - (dq.IsNull ? 0 : ContrastiveProducts<T>.SumsLength(Count, Dim)));
        ContrastiveProducts<T> products = new(Device, workspace, Count, Dim, strip, wantsQueries: !dq.IsNull);
        DeviceScalar scale = RowGradient * (Factor / ContrastiveWeights<T>.Unit);
        for (int first = 0; first < PassageCount; first += strip)
        {
            int columns = Math.Min(strip, PassageCount - first);
            DeviceMatrix<T> passages = From(Passages, first);
            if (columns % 8 != 0) products.ClearWeights();
            GemmPlan.Choose<T, Nt>(Device, Count, columns, Dim, Queries, passages, default).Run<T, Nt, ContrastiveWeights<T>>(
                new(products.Weights, LogSumExp, new(Targets.Columns, Targets.Step, Targets.First + first), Factor * DeviceMath.Log2E));
            products.Add(Queries, columns, scale, dp.IsNull ? default : From(dp, first), accumulatePassages);
            products.Sum(passages, columns, first == 0, first + columns == PassageCount, scale, dq, accumulateQueries);
        }
    }

    private int Strip(long available)
    {
        int all = (PassageCount + 7) & ~7, columns = Math.Min(all, InfoNce.StripOf(Count));
        long fitting = (available - 64) * sizeof(float) / ((long)Count << T.SizeShift);
        if (fitting < columns) columns = (int)(fitting & ~127L);
        return columns > 0 ? columns
            : throw new ArgumentException($"a workspace of {InfoNce.LeastWorkspace(Count, Dim)} elements is needed for {Count} queries of {Dim}", nameof(available));
    }

    private static DeviceMatrix<T> From(DeviceMatrix<T> matrix, int row) => new(new DevicePointer<T>(matrix.Start.At(row * matrix.Stride)), matrix.Stride);
}

/// <summary>
/// The two products that a matrix of weights [queries, columns] goes into, and the workspace they share: sums of dq in binary32 (where dq is wanted), the
/// weights, and the rest for splits.
/// </summary>
internal readonly struct ContrastiveProducts<T> where T : unmanaged, IElement
{
    private readonly KernelDevice _device;
    private readonly int _count, _dim;
    private readonly DeviceMatrix<FP32> _sums;
    private readonly Workspace _rest;

    /// <summary>Divides a workspace that is known to be large enough; <paramref name="columns"/> is a multiple of 8. Without <paramref name="wantsQueries"/> there is no room for sums.</summary>
    public ContrastiveProducts(KernelDevice device, Workspace workspace, int count, int dim, int columns, bool wantsQueries)
    {
        (_device, _count, _dim) = (device, count, dim);
        long sums = wantsQueries ? SumsLength(count, dim) : 0, weights = ((((long)count * columns) << T.SizeShift) / sizeof(float) + 63) & ~63L;
        if (wantsQueries) _sums = new(workspace.Start, dim);
        Weights = new(new DevicePointer<T>(workspace.Start.At(sums)), columns);
        _rest = new(new DevicePointer<FP32>(workspace.Start.At(sums + weights)), Math.Max(0, workspace.Length - sums - weights));
    }

    /// <summary>[queries, columns], to be filled before <see cref="Add"/> and <see cref="Sum"/>.</summary>
    public DeviceMatrix<T> Weights { get; }

    /// <summary>The binary32 elements that sums of dq take, rounded up so that what follows is aligned.</summary>
    public static long SumsLength(int count, int dim) => ((long)count * dim + 63) & ~63L;

    /// <summary>Enqueues zeros for all weights: products read them in pieces of 8 columns, so what follows a row's last column must be zero.</summary>
    public void ClearWeights() => _device.Fill(Weights.Start.Address, 0, _count * Weights.Stride << T.SizeShift);

    /// <summary>Enqueues dp (stored or added) = weights^T q * scale over the weights' first <paramref name="columns"/>, where dp is wanted.</summary>
    public void Add(DeviceMatrix<T> queries, int columns, DeviceScalar scale, DeviceMatrix<T> dp, bool accumulate)
    {
        if (!dp.IsNull)
            (GemmPlan.Choose<T, Tn>(_device, Padded(columns), _dim, _count, Weights, queries, _rest) with { M = columns }).Run<T, Tn, ScaledOutput<T>>(new(dp, scale, accumulate));
    }

    /// <summary>
    /// Enqueues the same weights' part in dq, where that is wanted: sums += weights p, and with the last part dq (stored or added) = sums * scale.
    /// </summary>
    public void Sum(DeviceMatrix<T> passages, int columns, bool first, bool last, DeviceScalar scale, DeviceMatrix<T> dq, bool accumulate)
    {
        if (!dq.IsNull)
            (GemmPlan.Choose<T, Nn>(_device, _count, _dim, Padded(columns), Weights, passages, _rest) with { K = columns })
                .Run<T, Nn, SummedGradientOutput<T>>(new(_sums, first, last, scale, dq, accumulate));
    }

    private static int Padded(int columns) => (columns + 7) & ~7;
}
