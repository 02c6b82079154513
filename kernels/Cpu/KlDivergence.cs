namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Distillation from a teacher's scores: t = softmax(teacher / teacherTemperature) over each group. Scores are a matrix [rows, columns] that holds either
/// the own group of each row (columns = groupSize) or all groups of the batch (row b's own group begins at column b * groupSize). Double precision inside.
/// </summary>
public static unsafe class KlDivergence
{
    /// <summary>The loss.</summary>
    /// <param name="form">Which one.</param>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="scores">[rows, columns], rows <paramref name="ldScores"/> floats apart; already divided by the contrastive temperature.</param>
    /// <param name="ldScores">At least columns.</param>
    /// <param name="rows">Rows; 0 gives a loss of 0.</param>
    /// <param name="columns">groupSize, or at least rows * groupSize.</param>
    /// <param name="teacher">[rows, groupSize].</param>
    /// <param name="ldTeacher">At least groupSize.</param>
    /// <param name="groupSize">At least 1.</param>
    /// <param name="teacherTemperature">Positive; 1 in FlagEmbedding.</param>
    /// <param name="studentTemperature">Positive: scores are divided by it once more; 1 in FlagEmbedding.</param>
    /// <param name="rowLoss">[rows].</param>
    /// <returns>The mean over rows, added up in order.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A size or temperature is out of range.</exception>
    public static float Forward(
        DistillationLoss form, WorkerTeam team, float* scores, int ldScores, int rows, int columns, float* teacher, int ldTeacher, int groupSize,
        float teacherTemperature, float studentTemperature, float* rowLoss)
    {
        ScoreRows job = Job(form, scores, ldScores, rows, columns, teacher, ldTeacher, groupSize, teacherTemperature, studentTemperature);
        job.RowLoss = rowLoss;
        return job.Run(team);
    }

    /// <summary>The gradient with respect to the scores; 0 for columns that take no part.</summary>
    /// <param name="form">As in the forward pass.</param>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="scores">[rows, columns].</param>
    /// <param name="ldScores">At least columns.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="teacher">[rows, groupSize].</param>
    /// <param name="ldTeacher">At least groupSize.</param>
    /// <param name="groupSize">As in the forward pass.</param>
    /// <param name="teacherTemperature">As in the forward pass.</param>
    /// <param name="studentTemperature">As in the forward pass.</param>
    /// <param name="lossGradient">The gradient of the loss.</param>
    /// <param name="dscores">[rows, columns]; may be the scores when stored.</param>
    /// <param name="lddScores">At least columns.</param>
    /// <param name="accumulate">Adds instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size or temperature is out of range.</exception>
    public static void Backward(
        DistillationLoss form, WorkerTeam team, float* scores, int ldScores, int rows, int columns, float* teacher, int ldTeacher, int groupSize,
        float teacherTemperature, float studentTemperature, float lossGradient, float* dscores, int lddScores, bool accumulate)
    {
        ScoreRows job = Job(form, scores, ldScores, rows, columns, teacher, ldTeacher, groupSize, teacherTemperature, studentTemperature);
        job.WriteGradients(lossGradient, dscores, lddScores, accumulate);
        job.Run(team);
    }

    private static ScoreRows Job(
        DistillationLoss form, float* scores, int ldScores, int rows, int columns, float* teacher, int ldTeacher, int groupSize,
        float teacherTemperature, float studentTemperature)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(groupSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldTeacher, groupSize);
        if (columns != groupSize) ArgumentOutOfRangeException.ThrowIfLessThan((long)columns, (long)rows * groupSize, nameof(columns));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(teacherTemperature);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(studentTemperature);
        return new()
        {
            Kind = form switch
            {
                DistillationLoss.CrossEntropy => ScoreLoss.Soft,
                DistillationLoss.Divergence => ScoreLoss.Divergence,
                _ => ScoreLoss.Staircase,
            },
            Scores = scores,
            Stride = ldScores,
            Rows = rows,
            Columns = columns,
            Targets = teacher,
            StrideTargets = ldTeacher,
            Group = groupSize,
            TeacherTemperature = teacherTemperature,
            Temperature = studentTemperature,
        };
    }
}
