using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Distillation from a teacher's scores: t = softmax(teacher / teacherTemperature) over each group. Scores are a matrix [rows, columns] that holds either
/// the own group of each row (columns = groupSize) or all groups of the batch (row b's own group begins at column b * groupSize); they are best kept in
/// binary32 (<see cref="Scores"/>). A warp a row, binary32 inside. Everything is enqueued; nothing waits.
/// </summary>
public static class KlDivergence
{
    /// <summary>The loss, its mean over rows into one binary32.</summary>
    /// <param name="form">Which one.</param>
    /// <param name="device">Where to run.</param>
    /// <param name="scores">[rows, columns]; already divided by the contrastive temperature.</param>
    /// <param name="rows">Positive.</param>
    /// <param name="columns">groupSize, or at least rows * groupSize.</param>
    /// <param name="teacher">[rows, groupSize].</param>
    /// <param name="groupSize">Positive.</param>
    /// <param name="teacherTemperature">Positive; 1 in FlagEmbedding.</param>
    /// <param name="studentTemperature">Positive: scores are divided by it once more; 1 in FlagEmbedding.</param>
    /// <param name="rowLoss">[rows].</param>
    /// <param name="loss">One binary32.</param>
    /// <exception cref="ArgumentException">A size or temperature is out of range.</exception>
    public static void Forward<T>(DistillationLoss form, KernelDevice device, DeviceMatrix<T> scores, int rows, int columns, DeviceMatrix<FP32> teacher,
        int groupSize, float teacherTemperature, float studentTemperature, DevicePointer<FP32> rowLoss, DevicePointer<FP32> loss) where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Arguments(form, scores, rows, columns, teacher, groupSize, teacherTemperature, studentTemperature));
        plan.Forward(form == DistillationLoss.Staircase ? ScoreRowsKernels.StaircaseForward : ScoreRowsKernels.SoftForward, rowLoss, loss);
    }

    /// <summary>The gradient with respect to the scores, stored or added; 0 for columns that take no part. Must not overlap the scores.</summary>
    /// <inheritdoc cref="Forward{T}"/>
    public static void Backward<T>(DistillationLoss form, KernelDevice device, DeviceMatrix<T> scores, int rows, int columns, DeviceMatrix<FP32> teacher,
        int groupSize, float teacherTemperature, float studentTemperature, DeviceScalar lossGradient, DeviceMatrix<T> dscores, bool accumulate)
        where T : unmanaged, IElement
    {
        ScoreRowsPlan<T> plan = new(device, Arguments(form, scores, rows, columns, teacher, groupSize, teacherTemperature, studentTemperature));
        plan.Backward(form == DistillationLoss.Staircase ? ScoreRowsKernels.StaircaseBackward : ScoreRowsKernels.SoftBackward, lossGradient, dscores, accumulate);
    }

    private static ScoreRowsArguments<T> Arguments<T>(DistillationLoss form, DeviceMatrix<T> scores, int rows, int columns, DeviceMatrix<FP32> teacher,
        int groupSize, float teacherTemperature, float studentTemperature) where T : unmanaged, IElement
    {
        if (groupSize <= 0 || (columns != groupSize && columns < (long)rows * groupSize))
            throw new ArgumentException($"{rows} groups of {groupSize} do not fit into {columns} columns", nameof(columns));
        if (!(teacherTemperature > 0) || !(studentTemperature > 0))
            throw new ArgumentException($"temperatures must be positive: {teacherTemperature}, {studentTemperature}", nameof(teacherTemperature));
        return new()
        {
            Scores = scores,
            Rows = rows,
            Columns = columns,
            Teacher = teacher,
            Group = groupSize,
            Scale = 1 / studentTemperature,
            TeacherScale = 1 / teacherTemperature,
            SubtractEntropy = form == DistillationLoss.Divergence ? 1 : 0,
        };
    }
}
