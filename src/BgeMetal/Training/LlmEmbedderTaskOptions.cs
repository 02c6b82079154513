using BgeMetal.Data.Training;

namespace BgeMetal.Training;

/// <summary>What one task of the LLM-Embedder's training may set for itself; names and defaults are those of FlagEmbedding's research/llm_embedder.</summary>
public sealed record LlmEmbedderTaskOptions
{
    /// <summary>Weight of the contrastive loss; 0 leaves it out.</summary>
    public double ContrastiveWeight { get; init; } = 0.2;

    /// <summary>Weight of the distillation loss; 0 leaves it out. Rows without a teacher's scores have none.</summary>
    public double DistillWeight { get; init; } = 1;

    /// <summary>The teacher's scores are divided by this before their softmax; plain distillation only.</summary>
    public double TeacherTemperature { get; init; } = 1;

    /// <summary>The student's similarities are divided by this as well as by the cosine's temperature; plain distillation only.</summary>
    public double StudentTemperature { get; init; } = 1;

    /// <summary>Whether distillation is the stabilised one: candidates in the teacher's order, each against all that come after it and all of the other queries.</summary>
    public bool StableDistill { get; init; }

    /// <summary>Which positive a row gives.</summary>
    public PositiveSelection SelectPositive { get; init; }

    /// <summary>Which negatives a row gives.</summary>
    public NegativeSelection SelectNegative { get; init; }

    /// <summary>Rows whose best and worst teacher score are closer than this are left out; null keeps all.</summary>
    public double? TeacherScoresMargin { get; init; }

    /// <summary>Rows whose best teacher score is below this are left out; null keeps all.</summary>
    public double? TeacherScoresMin { get; init; }

    /// <summary>The most rows of each file of the task, drawn by the seed; null keeps all.</summary>
    public int? MaxRows { get; init; }

    /// <summary>Rows of the task's batches, where every batch is of one task; null for the run's.</summary>
    public int? BatchSize { get; init; }

    /// <exception cref="BgeMetalException">A number is out of range.</exception>
    internal void Validate(string task)
    {
        AtLeast(task, "contrastive_weight", ContrastiveWeight, 0);
        AtLeast(task, "distill_weight", DistillWeight, 0);
        Positive(task, "teacher_temperature", TeacherTemperature);
        Positive(task, "student_temperature", StudentTemperature);
        if (ContrastiveWeight == 0 && DistillWeight == 0)
            throw new BgeMetalException(Named(task, "contrastive_weight"), "the contrastive weight and the distillation weight are both 0: nothing is left to train");
        if (TeacherScoresMargin is { } margin) AtLeast(task, "teacher_scores_margin", margin, 0);
        if (MaxRows is { } rows) AtLeast(task, "max_sample_num", rows, 1);
        if (BatchSize is { } batch) AtLeast(task, "batch_size", batch, 1);
    }

    private static string Named(string task, string name) => task.Length == 0 ? $"option --{name.Replace('_', '-')}" : $"task {task}, {name}";

    private static void AtLeast(string task, string name, double value, double least)
    {
        if (!(value >= least) || !double.IsFinite(value)) throw new BgeMetalException(Named(task, name), $"{value} is out of range, expected at least {least}");
    }

    private static void Positive(string task, string name, double value)
    {
        if (!(value > 0) || !double.IsFinite(value)) throw new BgeMetalException(Named(task, name), $"{value} is out of range, expected a number above 0");
    }
}
