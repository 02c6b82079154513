using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The matrix of similarities q p^T / temperature, for losses that need all of it (distillation); <see cref="InfoNce"/> does without. Scores are binary32
/// whatever the vectors are: at a temperature of 0.02 a score in bf16 would be off by up to an eighth.
/// </summary>
public static class Scores
{
    /// <summary>scores [queries, passages] = q p^T / temperature; 2 * queries * passages * dim FLOP.</summary>
    /// <exception cref="ArgumentException">A size or the temperature is not positive.</exception>
    public static void Forward<T>(KernelDevice device, int queries, int passages, int dim, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature,
        DeviceMatrix<FP32> scores) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(queries, passages, dim, temperature);
        GemmPlan.Choose<T, Nt>(device, queries, passages, dim, q, p, default).Run<T, Nt, ScaledOutput<FP32>>(new(scores, 1 / temperature, accumulate: false));
    }

    /// <summary>The workspace of the backward pass, in binary32 elements; more of it lets products be split.</summary>
    public static long LeastWorkspace(int queries, int passages, int dim) =>
        ContrastiveProducts<FP32>.SumsLength(queries, dim) + (long)queries * ((passages + 7) & ~7) + 64;

    /// <summary>
    /// dq = dscores p / temperature and dp = dscores^T q / temperature, each stored or added. The gradient of the scores is rounded to the element type on its
    /// way into the products; in fp16 it should therefore carry a loss scale.
    /// </summary>
    /// <exception cref="ArgumentException">A size or the temperature is not positive, or the workspace is smaller than <see cref="LeastWorkspace"/>.</exception>
    public static void Backward<T>(KernelDevice device, int queries, int passages, int dim, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature,
        DeviceMatrix<FP32> dscores, DeviceMatrix<T> dq, bool accumulateQueries, DeviceMatrix<T> dp, bool accumulatePassages, Workspace workspace)
        where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(queries, passages, dim, temperature);
        long needed = LeastWorkspace(queries, passages, dim);
        if (workspace.Length < needed) throw new ArgumentException($"a workspace of {needed} elements is needed, there are {workspace.Length}", nameof(workspace));
        ContrastiveProducts<T> products = new(device, workspace, queries, dim, (passages + 7) & ~7, wantsQueries: true);
        if (passages % 8 != 0) products.ClearWeights();
        AddScaled.Run(device, dscores, queries, passages, 1f, accumulate: false, products.Weights);
        products.Add(q, passages, 1 / temperature, dp, accumulatePassages);
        products.Sum(p, passages, first: true, last: true, 1 / temperature, dq, accumulateQueries);
    }

    private static void Check(int queries, int passages, int dim, float temperature)
    {
        if (queries <= 0 || passages <= 0 || dim <= 0) throw new ArgumentException($"sizes must be positive: {queries} queries, {passages} passages of {dim}", nameof(queries));
        if (!(temperature > 0) || !float.IsFinite(1 / temperature)) throw new ArgumentException($"the temperature must be positive: {temperature}", nameof(temperature));
    }
}
