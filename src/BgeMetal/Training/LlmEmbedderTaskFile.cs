using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Data.Training;

namespace BgeMetal.Training;

/// <summary>
/// Options by task, <c>{"TASK": {"contrastive_weight": 0, "stable_distill": true, ..}, ..}</c>, with the names of research/llm_embedder. What a task does not
/// set stays as the run has it. The published settings are in llm-embedder-tasks.json beside this file.
/// </summary>
public static class LlmEmbedderTaskFile
{
    private const string Failure = "cannot read the tasks' options";

    /// <summary>The settings that BAAI/llm-embedder was trained with, over <paramref name="run"/>.</summary>
    public static IReadOnlyDictionary<string, LlmEmbedderTaskOptions> Published(LlmEmbedderTaskOptions run)
    {
        using Stream stream = typeof(LlmEmbedderTaskFile).Assembly.GetManifestResourceStream("llm-embedder-tasks.json")!;
        using MemoryStream bytes = new();
        stream.CopyTo(bytes);
        return Read(JsonFile.Parse(bytes.ToArray(), "llm-embedder-tasks.json"), run);
    }

    /// <summary>Reads a file, over <paramref name="run"/>.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or names an option that does not exist or a value that does not fit.</exception>
    public static IReadOnlyDictionary<string, LlmEmbedderTaskOptions> Load(string path, LlmEmbedderTaskOptions run)
    {
        if (!File.Exists(path)) throw new BgeMetalException(Failure, "there is no such file", path);
        return Read(JsonFile.ReadObject(path, Failure), run);
    }

    private static Dictionary<string, LlmEmbedderTaskOptions> Read(JsonFile json, LlmEmbedderTaskOptions run)
    {
        Dictionary<string, LlmEmbedderTaskOptions> tasks = new(StringComparer.Ordinal);
        foreach (JsonProperty task in json.Root.EnumerateObject())
        {
            if (task.Value.ValueKind != JsonValueKind.Object) throw json.Wrong(task.Name, task.Value, "an object of options");
            LlmEmbedderTaskOptions options = run;
            foreach (JsonProperty field in task.Value.EnumerateObject())
                if (field.Value.ValueKind != JsonValueKind.Null) options = Set(json, options, field);
            tasks.Add(task.Name, options);
        }
        return tasks;
    }

    private static LlmEmbedderTaskOptions Set(JsonFile json, LlmEmbedderTaskOptions options, JsonProperty field) => field.Name switch
    {
        "contrastive_weight" => options with { ContrastiveWeight = Number(json, field) },
        "distill_weight" => options with { DistillWeight = Number(json, field) },
        "teacher_temperature" => options with { TeacherTemperature = Number(json, field) },
        "student_temperature" => options with { StudentTemperature = Number(json, field) },
        "stable_distill" => options with { StableDistill = field.Value.ValueKind is JsonValueKind.True or JsonValueKind.False ? field.Value.GetBoolean() : throw json.Wrong(field.Name, field.Value, "true or false") },
        "select_positive" => options with { SelectPositive = Positive(Word(json, field)) ?? throw json.Wrong(field.Name, field.Value, "first, random, teacher or teacher-pos") },
        "select_negative" => options with { SelectNegative = Negative(Word(json, field)) ?? throw json.Wrong(field.Name, field.Value, "random, first, teacher+ or teacher-") },
        "teacher_scores_margin" => options with { TeacherScoresMargin = Number(json, field) },
        "teacher_scores_min" => options with { TeacherScoresMin = Number(json, field) },
        "max_sample_num" => options with { MaxRows = Whole(json, field) },
        "batch_size" => options with { BatchSize = Whole(json, field) },
        _ => throw json.Wrong(field.Name, field.Value, "one of contrastive_weight, distill_weight, teacher_temperature, student_temperature, stable_distill, select_positive, "
            + "select_negative, teacher_scores_margin, teacher_scores_min, max_sample_num, batch_size"),
    };

    /// <summary>The selection of a word, or null.</summary>
    public static PositiveSelection? Positive(string word) => word switch
    {
        "first" => PositiveSelection.First,
        "random" => PositiveSelection.Random,
        "teacher" => PositiveSelection.Teacher,
        "teacher-pos" => PositiveSelection.TeacherPositive,
        _ => null,
    };

    /// <summary>The selection of a word, or null.</summary>
    public static NegativeSelection? Negative(string word) => word switch
    {
        "first" => NegativeSelection.First,
        "random" => NegativeSelection.Random,
        "teacher+" => NegativeSelection.TeacherBest,
        "teacher-" => NegativeSelection.TeacherWorst,
        _ => null,
    };

    private static double Number(JsonFile json, JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetDouble(out double value) && double.IsFinite(value) ? value : throw json.Wrong(field.Name, field.Value, "a number");

    private static int Whole(JsonFile json, JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetInt32(out int value) ? value : throw json.Wrong(field.Name, field.Value, "a whole number");

    private static string Word(JsonFile json, JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.String ? JsonFile.TryText(field.Value) ?? "" : throw json.Wrong(field.Name, field.Value, "a text");
}
