using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Arguments of the losses over rows of a score matrix that exists.</summary>
internal struct ScoreRowsArguments<T> where T : unmanaged, IElement
{
    /// <summary>[rows, columns], and the gradient of it.</summary>
    public DeviceMatrix<T> Scores, Gradients;

    /// <summary>[rows, group]: what a teacher says.</summary>
    public DeviceMatrix<FP32> Teacher;

    /// <summary>The right column of each row, or null for column 0.</summary>
    public DevicePointer<int> Labels;

    /// <summary>[rows]: the results of a forward pass; logSumExp may be absent.</summary>
    public DevicePointer<FP32> RowLoss, LogSumExp;

    /// <summary>The gradient of a row's loss.</summary>
    public DeviceScalar RowGradient;

    /// <summary>What scores are multiplied with, and what the teacher's scores are; 0 where the teacher's numbers are probabilities already.</summary>
    public float Scale, TeacherScale;

    /// <summary>Sizes.</summary>
    public int Rows, Columns, Group;

    /// <summary>Nonzero to add gradients instead of storing them; nonzero to subtract the teacher's entropy.</summary>
    public int Accumulate, SubtractEntropy;

    /// <summary>Keeps the parameter block without holes.</summary>
    public int Unused;
}

/// <summary>
/// Cross-entropies of rows of scores, and their gradients, a warp a row, in binary32 relative to the row's largest score. The rows are groups, or rows of
/// a batch's matrix where distillation wants all of it: small beside the encoder that made them, so they are read from memory as often as it takes.
/// </summary>
internal static class ScoreRowsKernels
{
    [CudaKernel("SoftmaxCrossEntropy", KernelDirection.Forward, 128)]
    public static void HardForward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        LogSum all = LogSum.Of(arguments.Scores, row, 0, arguments.Columns, arguments.Scale);
        int label = arguments.Labels.IsNull ? 0 : arguments.Labels.Load(row);
        float score = (arguments.Scores.Load(row, label) - all.Max) * arguments.Scale;
        if ((Group.IdxX & 31) != 0) return;
        arguments.RowLoss.Store(row, all.Log - score);
        if (!arguments.LogSumExp.IsNull) arguments.LogSumExp.Store(row, all.Max * arguments.Scale + all.Log);
    }

    [CudaKernel("SoftmaxCrossEntropy", KernelDirection.Backward, 128)]
    public static void HardBackward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        LogSum all = LogSum.Of(arguments.Scores, row, 0, arguments.Columns, arguments.Scale);
        int label = arguments.Labels.IsNull ? 0 : arguments.Labels.Load(row);
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32)
            Write(arguments, row, c, all.Probability(arguments.Scores.Load(row, c), arguments.Scale) - (c == label ? 1f : 0f));
    }

    [CudaKernel("KlDivergence", KernelDirection.Forward, 128)]
    public static void SoftForward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        int first = First(arguments, row);
        LogSum own = LogSum.Of(arguments.Scores, row, first, first + arguments.Group, arguments.Scale);
        LogSum teacher = LogSum.Of(arguments.Teacher, row, 0, arguments.Group, arguments.TeacherScale);
        float loss = 0;
        for (int g = Group.IdxX & 31; g < arguments.Group; g += 32)
        {
            float target = Target(arguments, teacher, row, g);
            float term = own.Log - (arguments.Scores.Load(row, first + g) - own.Max) * arguments.Scale;
            if (arguments.SubtractEntropy != 0 & target > 0)
                term += arguments.TeacherScale > 0 ? (arguments.Teacher.Load(row, g) - teacher.Max) * arguments.TeacherScale - teacher.Log : DeviceMath.Log(target);
            loss += target * term;
        }
        loss = WarpReduce.Sum(loss);
        if ((Group.IdxX & 31) == 0) arguments.RowLoss.Store(row, loss);
    }

    [CudaKernel("KlDivergence", KernelDirection.Backward, 128)]
    public static void SoftBackward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        int first = First(arguments, row);
        LogSum own = LogSum.Of(arguments.Scores, row, first, first + arguments.Group, arguments.Scale);
        LogSum teacher = LogSum.Of(arguments.Teacher, row, 0, arguments.Group, arguments.TeacherScale);
        float total = 0;
        for (int g = Group.IdxX & 31; g < arguments.Group; g += 32) total += Target(arguments, teacher, row, g);
        total = WarpReduce.Sum(total);
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32)
        {
            int g = c - first;
            float gradient = 0;
            if (g >= 0 & g < arguments.Group)
                gradient = own.Probability(arguments.Scores.Load(row, c), arguments.Scale) * total - Target(arguments, teacher, row, g);
            Write(arguments, row, c, gradient);
        }
    }

    /// <summary>
    /// Step i is a cross-entropy over the columns outside the group and those of the group from i on, so its logarithm grows from that of step i + 1 by
    /// one column. Every lane walks down the group by itself.
    /// </summary>
    [CudaKernel("KlDivergence", KernelDirection.Forward, 128)]
    public static void StaircaseForward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        int first = First(arguments, row);
        float max = LogSum.Of(arguments.Scores, row, 0, arguments.Columns, arguments.Scale).Max;
        LogSum teacher = LogSum.Of(arguments.Teacher, row, 0, arguments.Group, arguments.TeacherScale);
        float log = Outside(arguments, row, first, max), loss = 0;
        for (int i = arguments.Group - 1; i >= 0; i--)
        {
            float score = (arguments.Scores.Load(row, first + i) - max) * arguments.Scale;
            log = LogSum.Both(log, score);
            loss += Target(arguments, teacher, row, i) * (log - score);
        }
        if ((Group.IdxX & 31) == 0) arguments.RowLoss.Store(row, loss);
    }

    /// <summary>Column j of the group takes part in the steps up to j; columns outside take part in all, with one exponential for their share.</summary>
    [CudaKernel("KlDivergence", KernelDirection.Backward, 128)]
    public static void StaircaseBackward<T>(ScoreRowsArguments<T> arguments) where T : unmanaged, IElement
    {
        int row = Row();
        if (row >= arguments.Rows) return;
        int first = First(arguments, row);
        float max = LogSum.Of(arguments.Scores, row, 0, arguments.Columns, arguments.Scale).Max;
        LogSum teacher = LogSum.Of(arguments.Teacher, row, 0, arguments.Group, arguments.TeacherScale);
        float outside = Outside(arguments, row, first, max);
        float share = Steps(arguments, teacher, row, first, max, outside, outside, arguments.Group - 1);
        for (int c = Group.IdxX & 31; c < arguments.Columns; c += 32)
        {
            int g = c - first;
            float score = (arguments.Scores.Load(row, c) - max) * arguments.Scale, gradient = share * DeviceMath.Exp(score - outside);
            if (g >= 0 & g < arguments.Group)
                gradient = Steps(arguments, teacher, row, first, max, outside, score, g) - Target(arguments, teacher, row, g);
            Write(arguments, row, c, gradient);
        }
    }

    // The sum over steps i <= last of target i times e^(score - logarithm of step i).
    private static float Steps<T>(ScoreRowsArguments<T> arguments, LogSum teacher, int row, int first, float max, float outside, float score, int last)
        where T : unmanaged, IElement
    {
        float log = outside, sum = 0;
        for (int i = arguments.Group - 1; i >= 0; i--)
        {
            log = LogSum.Both(log, (arguments.Scores.Load(row, first + i) - max) * arguments.Scale);
            if (i <= last) sum += Target(arguments, teacher, row, i) * DeviceMath.Exp(score - log);
        }
        return sum;
    }

    // The logarithm of the sum of exponentials, relative to max, of the columns outside the group; -infinity without any.
    private static float Outside<T>(ScoreRowsArguments<T> arguments, int row, int first, float max) where T : unmanaged, IElement
    {
        LogSum before = LogSum.Of(arguments.Scores, row, 0, first, arguments.Scale);
        LogSum after = LogSum.Of(arguments.Scores, row, first + arguments.Group, arguments.Columns, arguments.Scale);
        float log = float.NegativeInfinity;
        if (first > 0) log = (before.Max - max) * arguments.Scale + before.Log;
        if (first + arguments.Group < arguments.Columns) log = LogSum.Both(log, (after.Max - max) * arguments.Scale + after.Log);
        return log;
    }

    private static float Target<T>(ScoreRowsArguments<T> arguments, LogSum teacher, int row, int member) where T : unmanaged, IElement
    {
        float value = arguments.Teacher.Load(row, member);
        return arguments.TeacherScale > 0 ? teacher.Probability(value, arguments.TeacherScale) : value;
    }

    private static void Write<T>(ScoreRowsArguments<T> arguments, int row, int column, float gradient) where T : unmanaged, IElement
    {
        gradient *= arguments.RowGradient.Load() * arguments.Scale;
        arguments.Gradients.Store(row, column, arguments.Accumulate != 0 ? gradient + arguments.Gradients.Load(row, column) : gradient);
    }

    private static int Row() => Grid.IdxX * 4 + (ILGPU.Group.IdxX >> 5);

    private static int First<T>(ScoreRowsArguments<T> arguments, int row) where T : unmanaged, IElement =>
        arguments.Columns == arguments.Group ? 0 : row * arguments.Group;
}

/// <summary>A row's largest score, and the logarithm of the sum of exponentials relative to it.</summary>
internal struct LogSum
{
    /// <summary>The largest score, before scaling; -infinity of nothing.</summary>
    public float Max;

    /// <summary>log sum exp((score - Max) * scale).</summary>
    public float Log;

    /// <summary>Over columns first..end of a row, by the whole warp.</summary>
    public static LogSum Of<T>(DeviceMatrix<T> scores, int row, int first, int end, float scale) where T : unmanaged, IElement
    {
        float max = float.NegativeInfinity, sum = 0;
        for (int c = first + (Group.IdxX & 31); c < end; c += 32) max = DeviceMath.Max(max, scores.Load(row, c));
        max = WarpReduce.Max(max);
        for (int c = first + (Group.IdxX & 31); c < end; c += 32) sum += DeviceMath.Exp((scores.Load(row, c) - max) * scale);
        return new() { Max = max, Log = DeviceMath.Log(WarpReduce.Sum(sum)) };
    }

    /// <summary>The share of one score.</summary>
    public readonly float Probability(float score, float scale) => DeviceMath.Exp((score - Max) * scale - Log);

    /// <summary>log(e^a + e^b); at most one may be -infinity.</summary>
    public static float Both(float a, float b)
    {
        float max = DeviceMath.Max(a, b), min = a + b - max;
        return a == float.NegativeInfinity ? b : max + DeviceMath.Log(1 + DeviceMath.Exp(min - max));
    }
}
