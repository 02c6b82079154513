using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes of a contrastive batch: queries [Queries, Dim], passages [Queries * GroupSize, Dim], each query's right passage the first of its group.</summary>
public readonly record struct InfoNceShape(int Queries, int GroupSize, int Dim);

/// <summary>
/// Queries against passages that need not be in groups: <paramref name="Targets"/> holds each query's right passage, negative for a query that is left out
/// of the loss.
/// </summary>
public readonly record struct InfoNceTargets(int Queries, int Passages, int Dim, DevicePointer<int> Targets);

/// <summary>
/// The contrastive loss (van den Oord et al., arXiv:1807.03748): mean cross-entropy of the scores q p^T / temperature, over the passages of the whole batch
/// or of each query's own group. The scores never exist as a matrix: the forward pass is an online softmax over tiles (<see cref="ScoreSoftmaxKernels"/>),
/// 2 B P D FLOP for P passages; the backward pass computes them again a strip of passages at a time, as weights softmax - one that two matrix products consume at once,
/// 6 B P D FLOP. (Holding the gradient of a tile of rows in registers instead, as attention does, would need B x D accumulators a block: at D = 768 the
/// scores would be computed six times.) Memory beside inputs and outputs: the workspace, O(B D) and one strip. Everything is enqueued; nothing waits. The
/// order of sums depends on shapes, device and workspace size alone.
/// </summary>
public static class InfoNce
{
    // A strip's weights take B times this many elements, or StripElements where that is more.
    private const int StripPassages = 4096, StripElements = 1 << 22;

    /// <summary>
    /// A workspace, in binary32 elements, with which both passes run as they like; a smaller one, down to <see cref="LeastWorkspace"/>, makes strips shorter.
    /// </summary>
    public static long AmpleWorkspace(int queries, int passages, int dim) =>
        (long)queries * dim + (long)queries * Math.Min((passages + 7) & ~7, StripOf(queries)) + 1024 + (8L << 20);

    /// <summary>The smallest workspace that the backward pass takes, in binary32 elements, whatever the element type and the number of passages.</summary>
    public static long LeastWorkspace(int queries, int dim) => (long)queries * (dim + 128) + 256;

    /// <summary>
    /// loss = the mean cross-entropy of the batch. Also writes each query's loss and logSumExp, [queries] each, the latter for the backward pass.
    /// </summary>
    /// <param name="device">Where to run.</param>
    /// <param name="shape">Sizes.</param>
    /// <param name="q">[queries, dim].</param>
    /// <param name="p">[queries * groupSize, dim].</param>
    /// <param name="temperature">Positive.</param>
    /// <param name="inBatch">Whether the other groups are negatives too.</param>
    /// <param name="rowLoss">[queries].</param>
    /// <param name="logSumExp">[queries].</param>
    /// <param name="loss">One binary32.</param>
    /// <param name="workspace">At least 2 * queries elements, or queries * groupSize without in-batch negatives.</param>
    /// <exception cref="ArgumentException">A size or the temperature is not positive, or the workspace is too small.</exception>
    public static void Forward<T>(KernelDevice device, InfoNceShape shape, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature, bool inBatch,
        DevicePointer<FP32> rowLoss, DevicePointer<FP32> logSumExp, DevicePointer<FP32> loss, Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        int passages = Check(shape, temperature);
        if (inBatch)
        {
            ForwardTiled(device, shape.Queries, passages, shape.Dim, q, p, temperature, new(default, shape.GroupSize, 0), rowLoss, logSumExp, workspace);
        }
        else
        {
            DeviceMatrix<FP32> scores = GroupScores(device, shape, q, p, temperature, workspace);
            device.Launch(ScoreRowsKernels.HardForward<FP32>, new GridSize((shape.Queries + 3) / 4), new ScoreRowsArguments<FP32>
            {
                Scores = scores,
                RowLoss = rowLoss,
                LogSumExp = logSumExp,
                Scale = 1,
                Rows = shape.Queries,
                Columns = shape.GroupSize,
            });
        }
        MeanLossKernels.Launch(device, rowLoss, default, shape.Queries, loss);
    }

    /// <summary>The same for queries with targets; the mean is over those that have one, 0 without any. The others get a logSumExp of +infinity.</summary>
    /// <inheritdoc cref="Forward{T}(KernelDevice, InfoNceShape, DeviceMatrix{T}, DeviceMatrix{T}, float, bool, DevicePointer{FP32}, DevicePointer{FP32}, DevicePointer{FP32}, Workspace)"/>
    public static void Forward<T>(KernelDevice device, InfoNceTargets shape, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature,
        DevicePointer<FP32> rowLoss, DevicePointer<FP32> logSumExp, DevicePointer<FP32> loss, Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape, temperature);
        ForwardTiled(device, shape.Queries, shape.Passages, shape.Dim, q, p, temperature, new(shape.Targets, 0, 0), rowLoss, logSumExp, workspace);
        MeanLossKernels.Launch(device, rowLoss, shape.Targets, shape.Queries, loss);
    }

    /// <summary>The gradients of the loss with respect to queries and passages.</summary>
    /// <param name="device">Where to run.</param>
    /// <param name="shape">As in the forward pass.</param>
    /// <param name="q">As in the forward pass.</param>
    /// <param name="p">As in the forward pass.</param>
    /// <param name="temperature">As in the forward pass.</param>
    /// <param name="inBatch">As in the forward pass.</param>
    /// <param name="logSumExp">[queries], from the forward pass.</param>
    /// <param name="lossGradient">The gradient of the mean loss: a loss scale, say.</param>
    /// <param name="dq">[queries, dim]; must not overlap the inputs.</param>
    /// <param name="accumulateQueries">Adds to dq instead of storing.</param>
    /// <param name="dp">[queries * groupSize, dim]; must not overlap the inputs.</param>
    /// <param name="accumulatePassages">Adds to dp instead of storing.</param>
    /// <param name="workspace">See <see cref="AmpleWorkspace"/>; queries * groupSize elements without in-batch negatives.</param>
    /// <exception cref="ArgumentException">A size or the temperature is not positive, or the workspace is too small.</exception>
    public static void Backward<T>(KernelDevice device, InfoNceShape shape, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature, bool inBatch,
        DevicePointer<FP32> logSumExp, DeviceScalar lossGradient, DeviceMatrix<T> dq, bool accumulateQueries, DeviceMatrix<T> dp, bool accumulatePassages,
        Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        int passages = Check(shape, temperature);
        DeviceScalar rowGradient = lossGradient * (1f / shape.Queries);
        if (inBatch)
        {
            ContrastiveGradients<T> gradients = new(device, q, p, new(default, shape.GroupSize, 0), logSumExp, shape.Queries, passages, shape.Dim, 1 / temperature, rowGradient);
            gradients.Run(dq, accumulateQueries, dp, accumulatePassages, workspace);
            return;
        }
        DeviceMatrix<FP32> scores = GroupScores(device, shape, q, p, temperature, workspace);
        GroupScoreArguments<T> arguments = GroupArguments(shape, q, p, temperature) with
        {
            Scores = scores.Start,
            LogSumExp = logSumExp,
            QueryGradient = dq,
            PassageGradient = dp,
            RowGradient = rowGradient,
            AccumulateQueries = accumulateQueries ? 1 : 0,
            AccumulatePassages = accumulatePassages ? 1 : 0,
        };
        if (!dq.IsAligned || !dp.IsAligned) arguments.Vectorized = 0;
        device.Launch(GroupScoresKernels.Backward<T>, new GridSize(shape.Queries, (shape.Dim + 1023) / 1024), arguments);
    }

    /// <summary>
    /// dq and dp of the form with targets, either of which may be absent. Any range of queries may be given to get a part of dq, and any range of passages,
    /// from number <paramref name="firstPassage"/> of the forward pass on, to get a part of dp.
    /// </summary>
    /// <param name="device">Where to run.</param>
    /// <param name="shape">The ranges given; targets are counted from the first passage of the forward pass.</param>
    /// <param name="q">[queries, dim].</param>
    /// <param name="p">[passages, dim].</param>
    /// <param name="firstPassage">0 where all passages are given.</param>
    /// <param name="temperature">As in the forward pass.</param>
    /// <param name="logSumExp">[queries], from the forward pass.</param>
    /// <param name="rowGradient">The gradient of each query's loss: that of the mean divided by the number of queries that count.</param>
    /// <param name="dq">[queries, dim], or absent.</param>
    /// <param name="accumulateQueries">Adds to dq instead of storing.</param>
    /// <param name="dp">[passages, dim], or absent.</param>
    /// <param name="accumulatePassages">Adds to dp instead of storing.</param>
    /// <param name="workspace">See <see cref="AmpleWorkspace"/>.</param>
    /// <exception cref="ArgumentException">A size or the temperature is not positive, or the workspace is too small.</exception>
    public static void Backward<T>(KernelDevice device, InfoNceTargets shape, DeviceMatrix<T> q, DeviceMatrix<T> p, int firstPassage, float temperature,
        DevicePointer<FP32> logSumExp, DeviceScalar rowGradient, DeviceMatrix<T> dq, bool accumulateQueries, DeviceMatrix<T> dp, bool accumulatePassages,
        Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(shape, temperature);
        ContrastiveGradients<T> gradients = new(device, q, p, new(shape.Targets, 0, firstPassage), logSumExp, shape.Queries, shape.Passages, shape.Dim, 1 / temperature, rowGradient);
        gradients.Run(dq, accumulateQueries, dp, accumulatePassages, workspace);
    }

    /// <summary>Passages of a strip, a multiple of 128, when the workspace allows it.</summary>
    internal static int StripOf(int queries) => (int)Math.Max(StripPassages, StripElements / queries + 127L & ~127L);

    private static void ForwardTiled<T>(KernelDevice device, int queries, int passages, int dim, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature,
        ScoreTargets targets, DevicePointer<FP32> rowLoss, DevicePointer<FP32> logSumExp, Workspace workspace) where T : unmanaged, IElement
    {
        ScorePlan plan = ScorePlan.Choose(device, queries, passages, dim, q, p, workspace);
        plan.Run<T>(1 / temperature);
        device.Launch(ScoreSoftmaxKernels.Combine<T>, new GridSize((queries + 3) / 4), new ScoreCombineArguments<T>
        {
            X = q,
            Y = p,
            Partial = workspace.Start,
            RowLoss = rowLoss,
            LogSumExp = logSumExp,
            Targets = targets,
            Rows = queries,
            Chunks = plan.Chunks,
            Dim = dim,
            Vectorized = Vectorized(q, p, dim),
            Factor = 1 / temperature,
            Scale = DeviceMath.Log2E / temperature,
        });
    }

    private static DeviceMatrix<FP32> GroupScores<T>(KernelDevice device, InfoNceShape shape, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature, Workspace workspace)
        where T : unmanaged, IElement
    {
        long needed = (long)shape.Queries * shape.GroupSize;
        if (workspace.Length < needed) throw new ArgumentException($"a workspace of {needed} elements is needed, there are {workspace.Length}", nameof(workspace));
        device.Launch(GroupScoresKernels.Forward<T>, new GridSize(shape.Queries, (shape.GroupSize + 3) / 4),
            GroupArguments(shape, q, p, temperature) with { Scores = workspace.Start });
        return new(workspace.Start, shape.GroupSize);
    }

    private static GroupScoreArguments<T> GroupArguments<T>(InfoNceShape shape, DeviceMatrix<T> q, DeviceMatrix<T> p, float temperature) where T : unmanaged, IElement => new()
    {
        Queries = q,
        Passages = p,
        GroupSize = shape.GroupSize,
        Dim = shape.Dim,
        Factor = 1 / temperature,
        Vectorized = Vectorized(q, p, shape.Dim),
    };

    private static int Vectorized<T>(DeviceMatrix<T> q, DeviceMatrix<T> p, int dim) where T : unmanaged, IElement => q.IsAligned && p.IsAligned && dim % 8 == 0 ? 1 : 0;

    private static int Check(InfoNceShape shape, float temperature)
    {
        if (shape.Queries <= 0 || shape.GroupSize <= 0 || shape.Dim <= 0) throw new ArgumentException($"sizes must be positive: {shape}", nameof(shape));
        CheckTemperature(temperature);
        return checked(shape.Queries * shape.GroupSize);
    }

    private static void Check(InfoNceTargets shape, float temperature)
    {
        if (shape.Queries <= 0 || shape.Passages <= 0 || shape.Dim <= 0) throw new ArgumentException($"sizes must be positive: {shape}", nameof(shape));
        if (shape.Targets.IsNull) throw new ArgumentException("there are no targets", nameof(shape));
        CheckTemperature(temperature);
    }

    private static void CheckTemperature(float temperature)
    {
        if (!(temperature > 0) || !float.IsFinite(1 / temperature)) throw new ArgumentException($"the temperature must be positive: {temperature}", nameof(temperature));
    }
}
