using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Sizes of the masked-LM loss: x [rows, dim], the output table [vocabulary, dim].</summary>
public readonly record struct LinearCrossEntropyShape(int Rows, int Dim, int Vocabulary);

/// <summary>
/// The masked-LM loss: mean cross-entropy of softmax(x W^T + bias) over the rows that carry a label, without the [rows, vocabulary] logits. Forward: a tile
/// of logits is reduced to a maximum and a sum of exponentials for each of its rows before it leaves the multiprocessor (online softmax, Milakov and Gimelshein
/// 2018, section 3.1). Backward: the gradient of the logits is computed again, for as many columns of the vocabulary as the workspace has room for, stored once in the
/// element type and read by two ordinary products.
/// With R rows, dimension D and vocabulary V: 2 R V D FLOP forward and 6 R V D backward. Kernels that fuse either product with the recomputation need no buffer
/// but compute the logits twice, 8 R V D, and cannot hold [64, D] sums in registers; the buffer costs 3 R V elements of traffic instead: in
/// 16 bits a byte for D FLOP. Exact sums (binary32, and half-precision operands that tensor cores cannot take) go through the same steps.
/// </summary>
public static class LinearCrossEntropy
{
    /// <summary>Element of the result: the mean loss.</summary>
    public const int MeanIndex = 0;

    /// <summary>Element of the result: what a labelled row's loss counts in the mean, 1 / max(labelled rows, 1).</summary>
    public const int WeightIndex = 1;

    /// <summary>Elements of the result.</summary>
    public const int ResultLength = 2;

    // Chunks of the vocabulary start at tiles.
    private const int ColumnStep = 128;

    /// <summary>The least workspace, in binary32 elements, that <see cref="Forward"/> and <see cref="Backward"/> take. More of it means fewer passes.</summary>
    public static long MinimumWorkspace<T>(LinearCrossEntropyShape shape) where T : unmanaged, IElement =>
        Math.Max(2L * Math.Min(shape.Rows, ColumnStep) * ((shape.Vocabulary + 63) / 64), SumsLength(shape) + ColumnStep * ColumnLength<T>(shape));

    /// <summary>
    /// Enqueues the loss: <paramref name="result"/> [2] receives the mean over the labelled rows (0 without any) and 1 / labelled rows, <paramref name="rowLoss"/>
    /// [rows] each row's cross-entropy (0 without a label), <paramref name="logSumExp"/> [rows] what the backward pass needs (+infinity without a label).
    /// </summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">Sizes, all positive.</param>
    /// <param name="x">[rows, dim]. Passing labelled rows only saves their arithmetic.</param>
    /// <param name="weight">[vocabulary, dim].</param>
    /// <param name="bias">[vocabulary], or null.</param>
    /// <param name="labels">[rows]: the right column, or a negative number for none. A label beyond the vocabulary makes the loss NaN.</param>
    /// <param name="rowLoss">Receives losses.</param>
    /// <param name="logSumExp">Receives logarithms.</param>
    /// <param name="result">Receives the mean.</param>
    /// <param name="workspace">At least <see cref="MinimumWorkspace"/>; 2 floats for each row and 64 columns let all rows go at once.</param>
    /// <exception cref="ArgumentException">A size is not positive, or the workspace is too small.</exception>
    public static void Forward<T>(KernelDevice device, LinearCrossEntropyShape shape, DeviceMatrix<T> x, DeviceMatrix<T> weight, DevicePointer<T> bias,
        DevicePointer<int> labels, DevicePointer<FP32> rowLoss, DevicePointer<FP32> logSumExp, DevicePointer<FP32> result, Workspace workspace)
        where T : unmanaged, IElement
    {
        Check<T>(device, shape, workspace);
        GemmPlan plan = GemmPlan.Choose<T, Nt>(device, shape.Rows, shape.Vocabulary, shape.Dim, x, weight, default);
        int tiles = (shape.Vocabulary + plan.Block - 1) / plan.Block;
        int most = (int)Math.Min(shape.Rows, workspace.Length / (2L * tiles));
        if (most < shape.Rows) most = Math.Max(most / plan.Block * plan.Block, Math.Min(most, plan.Block));
        for (int first = 0; first < shape.Rows; first += most)
        {
            int rows = Math.Min(most, shape.Rows - first);
            VocabularyTiles<T> consumer = new()
            {
                Bias = bias,
                Labels = Labels(labels, first),
                Partial = workspace.Start,
                Right = new(rowLoss.At(first)),
                Vectorized = IsAligned(bias),
            };
            Launch(plan with { M = rows, A = x.Start.At(first * x.Stride) }, consumer, forward: true);
            device.Launch(LinearCrossEntropyKernels.Combine, new GridSize((rows + 31) / 32), new VocabularyLossArguments
            {
                Partial = workspace.Start,
                RowLoss = new(rowLoss.At(first)),
                LogSumExp = new(logSumExp.At(first)),
                Labels = Labels(labels, first),
                Rows = rows,
                Tiles = tiles,
                Vocabulary = shape.Vocabulary,
            });
        }
        device.Launch(LinearCrossEntropyKernels.Mean, new GridSize(1),
            new VocabularyLossArguments { RowLoss = rowLoss, Labels = labels, Result = result, Rows = shape.Rows });
    }

    /// <summary>
    /// Enqueues dx = (or, with <paramref name="accumulateDx"/>, +=) the gradient of the input, and adds those of weight and bias, all times
    /// <paramref name="lossGradient"/>. Rows without a label get a gradient of zero. The gradient of the logits is rounded to the element type once; sums are binary32.
    /// </summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">As in the forward pass.</param>
    /// <param name="x">As in the forward pass.</param>
    /// <param name="weight">As in the forward pass.</param>
    /// <param name="bias">As in the forward pass.</param>
    /// <param name="labels">As in the forward pass.</param>
    /// <param name="logSumExp">From the forward pass.</param>
    /// <param name="result">From the forward pass.</param>
    /// <param name="lossGradient">One binary32 on the device, the gradient of the mean loss with the loss scale in it, or null for 1.</param>
    /// <param name="dx">[rows, dim].</param>
    /// <param name="accumulateDx">Adds to dx instead of storing.</param>
    /// <param name="dWeight">[vocabulary, dim], added to.</param>
    /// <param name="dBias">[vocabulary], added to, or null.</param>
    /// <param name="workspace">At least <see cref="MinimumWorkspace"/>. Its size decides how many columns of the vocabulary go at once, and so the order of sums in dx.</param>
    /// <exception cref="ArgumentException">A size is not positive, or the workspace is too small.</exception>
    public static void Backward<T>(KernelDevice device, LinearCrossEntropyShape shape, DeviceMatrix<T> x, DeviceMatrix<T> weight, DevicePointer<T> bias,
        DevicePointer<int> labels, DevicePointer<FP32> logSumExp, DevicePointer<FP32> result, DevicePointer<FP32> lossGradient,
        DeviceMatrix<T> dx, bool accumulateDx, DeviceMatrix<FP32> dWeight, DevicePointer<FP32> dBias, Workspace workspace) where T : unmanaged, IElement
    {
        Check<T>(device, shape, workspace);
        Buffers<T> buffers = new(shape, workspace);
        for (int first = 0; first < shape.Vocabulary; first += buffers.Columns)
        {
            int columns = Math.Min(buffers.Columns, shape.Vocabulary - first);
            DeviceMatrix<T> part = new(new(weight.Start.At(first * weight.Stride)), weight.Stride);
            VocabularyTiles<T> consumer = new()
            {
                Bias = bias.IsNull ? default : new(bias.At(first)),
                Labels = labels,
                Partial = dBias.IsNull ? default : buffers.BiasSums,
                LogSumExp = logSumExp,
                LossGradient = lossGradient,
                Result = result,
                Gradients = buffers.Gradients,
                FirstColumn = first,
                Vectorized = IsAligned(bias),
            };
            GemmPlan logits = GemmPlan.Choose<T, Nt>(device, shape.Rows, columns, shape.Dim, x, part, default);
            Launch(logits, consumer, forward: false);
            if (!dBias.IsNull)
                Linear.SumSlabs(device, buffers.BiasSums, (shape.Rows + logits.Block - 1) / logits.Block, columns, columns, new(dBias.At(first)));
            GemmPlan.Choose<T, Nn>(device, shape.Rows, shape.Dim, columns, buffers.Gradients, part, buffers.Splits, paddedA: true)
                .Run<T, Nn, SummedGradientOutput<T>>(new(buffers.Sums, first == 0, first + columns == shape.Vocabulary, 1f, dx, accumulateDx));
            GemmPlan.Choose<T, Tn>(device, columns, shape.Dim, shape.Rows, buffers.Gradients, x, buffers.Splits, paddedA: true)
                .Run<T, Tn, WeightGradientOutput>(new(new(new(dWeight.Start.At(first * dWeight.Stride)), dWeight.Stride)));
        }
    }

    // Neighbouring blocks share a tile of the vocabulary.
    private static void Launch<T>(GemmPlan plan, VocabularyTiles<T> consumer, bool forward) where T : unmanaged, IElement
    {
        GemmArguments<VocabularyTiles<T>> arguments = plan.Arguments(consumer);
        GridSize grid = new((plan.M + plan.Block - 1) / plan.Block, (plan.N + plan.Block - 1) / plan.Block);
        if (forward)
        {
            if (!plan.TensorCores) plan.Device.Launch(LinearCrossEntropyKernels.ForwardExact<T>, grid, arguments);
            else if (plan.LargeTile) plan.Device.Launch(LinearCrossEntropyKernels.Forward<T, Tile128, Accumulator128>, grid, arguments);
            else plan.Device.Launch(LinearCrossEntropyKernels.Forward<T, Tile64, Accumulator32>, grid, arguments);
        }
        else if (!plan.TensorCores) plan.Device.Launch(LinearCrossEntropyKernels.GradientsExact<T>, grid, arguments);
        else if (plan.LargeTile) plan.Device.Launch(LinearCrossEntropyKernels.Gradients<T, Tile128, Accumulator128>, grid, arguments);
        else plan.Device.Launch(LinearCrossEntropyKernels.Gradients<T, Tile64, Accumulator32>, grid, arguments);
    }

    private static void Check<T>(KernelDevice device, LinearCrossEntropyShape shape, Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (shape.Rows <= 0 || shape.Dim <= 0 || shape.Vocabulary <= 0) throw new ArgumentException($"sizes must be positive: {shape}", nameof(shape));
        long least = MinimumWorkspace<T>(shape);
        if (workspace.Length < least) throw new ArgumentException($"{shape} needs a workspace of {least} elements, there are {workspace.Length}", nameof(workspace));
    }

    private static DevicePointer<int> Labels(DevicePointer<int> labels, int first) => new(labels.Address + first * 4L);

    private static int IsAligned<T>(DevicePointer<T> bias) where T : unmanaged, IElement => (bias.Address & 15) == 0 ? 1 : 0;

    // Binary32 elements of the running sums of dx, and of one column of the buffer: its gradients and its sums over tiles of rows.
    private static long SumsLength(LinearCrossEntropyShape shape) => Rounded((long)shape.Rows * shape.Dim);

    private static long ColumnLength<T>(LinearCrossEntropyShape shape) where T : unmanaged, IElement =>
        ((((long)shape.Rows << T.SizeShift) + 3) >> 2) + ((shape.Rows + 63) / 64);

    // Whole 256-byte pieces.
    private static long Rounded(long elements) => (elements + 63) / 64 * 64;

    /// <summary>How the backward pass divides its workspace.</summary>
    private readonly struct Buffers<T> where T : unmanaged, IElement
    {
        public Buffers(LinearCrossEntropyShape shape, Workspace workspace)
        {
            long columnLength = ColumnLength<T>(shape), padded = (shape.Vocabulary + ColumnStep - 1L) / ColumnStep * ColumnStep, used = 0;
            if (padded * columnLength <= workspace.Length)
            {
                Columns = (int)padded;
            }
            else
            {
                // Products with few rows are split along their depth; they get up to a quarter.
                long splits = Math.Min(workspace.Length / 4, 4L * shape.Rows * shape.Dim), room = workspace.Length - SumsLength(shape);
                Columns = (int)(Math.Max(room - splits, ColumnStep * columnLength) / columnLength / ColumnStep * ColumnStep);
                Sums = new(workspace.Start, shape.Dim);
                used = SumsLength(shape);
            }
            Gradients = new(new(workspace.Start.At(used)), Columns);
            used += Columns * ((((long)shape.Rows << T.SizeShift) + 3) >> 2);
            BiasSums = new(workspace.Start.At(used));
            used = Rounded(used + (long)Columns * ((shape.Rows + 63) / 64));
            Splits = new(new(workspace.Start.At(used)), Math.Max(workspace.Length - used, 0));
        }

        /// <summary>Columns of the vocabulary that go at once.</summary>
        public int Columns { get; }

        /// <summary>[rows, dim], absent where one pass is enough.</summary>
        public DeviceMatrix<FP32> Sums { get; }

        /// <summary>[rows, Columns].</summary>
        public DeviceMatrix<T> Gradients { get; }

        /// <summary>[tiles of rows, Columns].</summary>
        public DevicePointer<FP32> BiasSums { get; }

        /// <summary>What is left.</summary>
        public Workspace Splits { get; }
    }
}
