using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>An <see cref="EmbeddingGradientPlan"/> on the device.</summary>
/// <param name="Order">Row numbers, grouped by entry.</param>
/// <param name="Starts">Where each piece begins, and the end.</param>
/// <param name="Targets">Each piece's entry, or -1 - p for partial sum p.</param>
/// <param name="Pieces">The number of pieces.</param>
/// <param name="MergeStarts">Where each frequent entry's partial sums begin, and the end.</param>
/// <param name="MergeTargets">Each frequent entry.</param>
/// <param name="Merges">The number of frequent entries.</param>
/// <param name="Partials">The number of partial sums.</param>
public readonly record struct EmbeddingGradientOrder(DevicePointer<int> Order, DevicePointer<int> Starts, DevicePointer<int> Targets, int Pieces,
    DevicePointer<int> MergeStarts, DevicePointer<int> MergeTargets, int Merges, int Partials);

/// <summary>BERT's input: y[t] = word[ids[t]] + position[positions[t]] + type[types[t]], and the gradients of the tables without atomics.</summary>
public static class Embedding
{
    /// <summary>y [tokens, hidden]; ids must be valid (nothing on the device checks them). Tables have rows of exactly <paramref name="hidden"/> elements.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, DevicePointer<int> tokenIds, DevicePointer<int> positionIds, DevicePointer<int> tokenTypeIds, int tokens,
        DevicePointer<T> word, DevicePointer<T> position, DevicePointer<T> type, int hidden, DeviceMatrix<T> y) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(tokens, hidden);
        bool aligned = y.IsAligned && hidden % 8 == 0 && ((word.Address | position.Address | type.Address) & 15) == 0;
        device.Launch(EmbeddingKernels.Forward<T>, new GridSize((tokens + 3) / 4, (hidden + 255) / 256), new EmbeddingArguments<T>
        {
            TokenIds = tokenIds,
            PositionIds = positionIds,
            TokenTypeIds = tokenTypeIds,
            Word = word,
            Position = position,
            Type = type,
            Y = y,
            Tokens = tokens,
            Columns = hidden,
            Vectorized = aligned ? 1 : 0,
        });
    }

    /// <summary>
    /// table[ids[t]] += dy[t] for all rows t of the plan; table [entries, hidden] in binary32. The workspace must hold <paramref name="order"/>.Partials
    /// rows of <paramref name="hidden"/> elements. The order of additions is the plan's: results are reproducible.
    /// </summary>
    /// <exception cref="ArgumentException">A size is not positive, or the workspace is too small.</exception>
    public static void Backward<T>(KernelDevice device, DeviceMatrix<T> dy, EmbeddingGradientOrder order, int hidden, DevicePointer<FP32> table,
        Workspace workspace) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        Check(order.Pieces, hidden);
        if (workspace.Length < (long)order.Partials * hidden)
            throw new ArgumentException($"a workspace of {(long)order.Partials * hidden} elements is needed, there are {workspace.Length}", nameof(workspace));
        int blocks = (hidden + 255) / 256;
        device.Launch(EmbeddingKernels.Backward<T>, new GridSize((order.Pieces + 3) / 4, blocks), new EmbeddingGradientArguments<T>
        {
            Source = dy,
            Order = order.Order,
            Starts = order.Starts,
            Targets = order.Targets,
            Table = table,
            Partial = workspace.Start,
            Pieces = order.Pieces,
            Columns = hidden,
            Vectorized = dy.IsAligned && hidden % 8 == 0 && (table.Address & 15) == 0 ? 1 : 0,
        });
        device.Launch(EmbeddingKernels.Backward<FP32>, new GridSize((order.Merges + 3) / 4, blocks), new EmbeddingGradientArguments<FP32>
        {
            Source = new(workspace.Start, hidden),
            Starts = order.MergeStarts,
            Targets = order.MergeTargets,
            Table = table,
            Pieces = order.Merges,
            Columns = hidden,
            Vectorized = hidden % 8 == 0 && (table.Address & 15) == 0 ? 1 : 0,
        });
    }

    private static void Check(int rows, int hidden)
    {
        if (rows <= 0 || hidden <= 0) throw new ArgumentException($"sizes must be positive: {rows} rows of {hidden}", nameof(rows));
    }
}

/// <summary>Arguments of the forward kernel.</summary>
internal struct EmbeddingArguments<T> where T : unmanaged, IElement
{
    /// <summary>[tokens].</summary>
    public DevicePointer<int> TokenIds, PositionIds, TokenTypeIds;

    /// <summary>Tables, rows of <see cref="Columns"/>.</summary>
    public DevicePointer<T> Word, Position, Type;

    /// <summary>[tokens, columns].</summary>
    public DeviceMatrix<T> Y;

    /// <summary>Sizes, and whether 16-byte accesses are allowed.</summary>
    public int Tokens, Columns, Vectorized;
}

/// <summary>Arguments of the backward kernel; without an order, rows are taken as they come.</summary>
internal struct EmbeddingGradientArguments<T> where T : unmanaged, IElement
{
    /// <summary>Rows of gradients.</summary>
    public DeviceMatrix<T> Source;

    /// <summary>The plan.</summary>
    public DevicePointer<int> Order, Starts, Targets;

    /// <summary>What is added to, and where partial sums go.</summary>
    public DevicePointer<FP32> Table, Partial;

    /// <summary>Sizes, and whether 16-byte accesses are allowed.</summary>
    public int Pieces, Columns, Vectorized;
}

/// <summary>A warp takes 256 columns of one token, or of one piece of the plan.</summary>
internal static class EmbeddingKernels
{
    [CudaKernel("Embedding", KernelDirection.Forward, 128)]
    public static void Forward<T>(EmbeddingArguments<T> arguments) where T : unmanaged, IElement
    {
        int token = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8, columns = arguments.Columns;
        if (token >= arguments.Tokens | column >= columns) return;
        long word = (long)arguments.TokenIds.Load(token) * columns + column, position = (long)arguments.PositionIds.Load(token) * columns + column,
            type = (long)arguments.TokenTypeIds.Load(token) * columns + column;
        if (arguments.Vectorized != 0)
            arguments.Y.Store8(token, column, arguments.Word.Load8(word) + arguments.Position.Load8(position) + arguments.Type.Load8(type));
        else
            for (int c = 0; c < Math.Min(8, columns - column); c++)
                arguments.Y.Store(token, column + c, arguments.Word.Load(word + c) + arguments.Position.Load(position + c) + arguments.Type.Load(type + c));
    }

    [CudaKernel("Embedding", KernelDirection.Backward, 128)]
    public static void Backward<T>(EmbeddingGradientArguments<T> arguments) where T : unmanaged, IElement
    {
        int piece = Grid.IdxX * 4 + (Group.IdxX >> 5), column = (Grid.IdxY * 32 + (Group.IdxX & 31)) * 8, columns = arguments.Columns;
        if (piece >= arguments.Pieces | column >= columns) return;
        int begin = arguments.Starts.Load(piece), end = arguments.Starts.Load(piece + 1), target = arguments.Targets.Load(piece);
        DevicePointer<FP32> output = target >= 0 ? arguments.Table : arguments.Partial;
        long offset = (long)(target >= 0 ? target : -1 - target) * columns + column;
        if (arguments.Vectorized != 0)
        {
            Float8 sum = target >= 0 ? output.Load8(offset) : Float8.All(0);
            for (int i = begin; i < end; i++) sum += arguments.Source.Load8(RowOf(arguments.Order, i), column);
            output.Store8(offset, sum);
            return;
        }
        for (int c = 0; c < Math.Min(8, columns - column); c++)
        {
            float sum = target >= 0 ? output.Load(offset + c) : 0;
            for (int i = begin; i < end; i++) sum += arguments.Source.Load(RowOf(arguments.Order, i), column + c);
            output.Store(offset + c, sum);
        }
    }

    private static int RowOf(DevicePointer<int> order, int index) => order.IsNull ? index : order.Load(index);
}
