using System.Text.Json;

namespace BgeMetal.Data.Training;

/// <summary>
/// A row of contrastive training data in FlagEmbedding's layout:
/// <c>{"query", "pos": [..], "neg": [..], "pos_scores", "neg_scores", "teacher_scores", "type", "prompt", "task", "batch_size", "train_group_size"}</c>, all but
/// the first two optional, null like absent, other fields ignored.
/// </summary>
internal sealed class TrainingRow
{
    /// <summary>Where the row stands.</summary>
    public required RowPlace Place { get; init; }

    /// <summary>The query.</summary>
    public required TrainingText Query { get; init; }

    /// <summary>Texts that answer the query.</summary>
    public required TrainingText[] Positives { get; init; }

    /// <summary>Texts that do not; empty when there are none.</summary>
    public required TrainingText[] Negatives { get; init; }

    /// <summary>A teacher's scores of <see cref="Positives"/>, or null.</summary>
    public float[]? PositiveScores { get; init; }

    /// <summary>A teacher's scores of <see cref="Negatives"/>, or null.</summary>
    public float[]? NegativeScores { get; init; }

    /// <summary>The row's data type, which FlagEmbedding gives a meaning to when every batch comes from one file: <c>normal</c>, <c>only_1neg</c>, <c>symmetric_class</c>, <c>symmetric_sts</c>, <c>symmetric_clustering</c>.</summary>
    public string? Type { get; init; }

    /// <summary>The row's own query instruction, or null.</summary>
    public string? Prompt { get; init; }

    /// <summary>The LLM-Embedder's task, or null.</summary>
    public string? Task { get; init; }

    /// <summary>A batch size for the file, read from its first row; or null.</summary>
    public int? BatchSize { get; init; }

    /// <summary>A group size for the batch, read from its first row; or null.</summary>
    public int? GroupSize { get; init; }
}

/// <summary>Reads training rows and holds them to what the training run needs of them, so that every row that can be read can be trained on.</summary>
/// <param name="NeedsNegatives">Whether a row without negatives is an error: true for group sizes above 1.</param>
/// <param name="NeedsScores">Whether a row without a teacher's scores is an error: true for knowledge distillation.</param>
/// <param name="QueryMaxLength">The most tokens of a query given as <c>input_ids</c>; 0 for no limit.</param>
/// <param name="PassageMaxLength">The same for passages.</param>
/// <param name="VocabularySize">The bound of every id given as <c>input_ids</c>; 0 for no check.</param>
/// <param name="HasTokenizer">Whether texts can be tokenised; when false every text must be given as <c>input_ids</c>.</param>
internal sealed record TrainingRowRules(bool NeedsNegatives = true, bool NeedsScores = false, int QueryMaxLength = 0, int PassageMaxLength = 0, int VocabularySize = 0, bool HasTokenizer = true)
{
    /// <summary>Reads a row.</summary>
    /// <exception cref="BgeMetalException">A field is missing or of the wrong type, a list of scores does not match its texts, or the row breaks a rule.</exception>
    public TrainingRow Read(JsonRow json)
    {
        TrainingText query = json.Field("query") is JsonElement value
            ? TrainingText.From(json, value, "\"query\"")
            : throw json.Missing("query", "a string (or {\"input_ids\": [..]})");
        TrainingText[] positives = TrainingText.List(json, "pos") ?? throw json.Missing("pos", "a list of strings");
        TrainingText[] negatives = TrainingText.List(json, "neg") ?? [];
        if (positives.Length == 0) throw json.Error("\"pos\" is empty: at least one positive was expected");
        if (NeedsNegatives && negatives.Length == 0) throw json.Error("\"neg\" has no text: at least one negative is needed for groups of two or more passages");
        CheckTokens(json, query, QueryMaxLength, "\"query\"");
        CheckTokens(json, positives, "\"pos\"");
        CheckTokens(json, negatives, "\"neg\"");
        (float[]? positiveScores, float[]? negativeScores) = Scores(json, positives.Length, negatives.Length);
        return new TrainingRow
        {
            Place = new RowPlace(json.Source, json.Line),
            Query = query,
            Positives = positives,
            Negatives = negatives,
            PositiveScores = positiveScores,
            NegativeScores = negativeScores,
            Type = json.Text("type"),
            Prompt = json.Text("prompt"),
            Task = json.Text("task"),
            BatchSize = json.Integer("batch_size", minimum: 1),
            GroupSize = json.Integer("train_group_size", minimum: 1),
        };
    }

    /// <summary>The scores of positives and negatives: <c>pos_scores</c> and <c>neg_scores</c> where both are there, else the two parts of <c>teacher_scores</c>, else none.</summary>
    private (float[]? Positives, float[]? Negatives) Scores(JsonRow json, int positives, int negatives)
    {
        float[]? positiveScores = Scores(json, "pos_scores", positives, "\"pos\"");
        float[]? negativeScores = Scores(json, "neg_scores", negatives, "\"neg\"");
        float[]? teacherScores = Scores(json, "teacher_scores", positives + negatives, "\"pos\" and \"neg\"");
        if (positiveScores is not null && (negativeScores is not null || negatives == 0)) return (positiveScores, negativeScores ?? []);
        if (teacherScores is not null) return (teacherScores[..positives], teacherScores[positives..]);
        if (!NeedsScores) return (null, null);
        throw json.Error(positiveScores is null && negativeScores is null
            ? "a teacher's scores are missing: \"pos_scores\" and \"neg_scores\" (or \"teacher_scores\") are needed for knowledge distillation"
            : $"\"{(positiveScores is null ? "pos_scores" : "neg_scores")}\" is missing beside \"{(positiveScores is null ? "neg_scores" : "pos_scores")}\": both are needed for knowledge distillation");
    }

    private static float[]? Scores(JsonRow json, string name, int texts, string of)
    {
        float[]? scores = json.Numbers(name);
        if (scores is not null && scores.Length != texts) throw json.Error($"\"{name}\" has {scores.Length} numbers, {of} {(of.Length > 5 ? "have" : "has")} {texts} texts");
        return scores;
    }

    private void CheckTokens(JsonRow json, TrainingText[] texts, string name)
    {
        for (int i = 0; i < texts.Length; i++) CheckTokens(json, texts[i], PassageMaxLength, name, i);
    }

    private void CheckTokens(JsonRow json, TrainingText text, int maxLength, string name, int index = -1)
    {
        string Place() => index < 0 ? name : $"{name}[{index}]";
        if (text.InputIds is not int[] ids)
        {
            if (!HasTokenizer) throw json.Error($"{Place()} is a text, but the model has no tokenizer: {{\"input_ids\": [..]}} was expected");
            return;
        }

        if (maxLength > 0 && ids.Length > maxLength) throw json.Error($"{Place()}.input_ids has {ids.Length} tokens, at most {maxLength} are allowed");
        if (VocabularySize <= 0) return;
        foreach (int id in ids)
            if (id >= VocabularySize) throw json.Error($"{Place()}.input_ids holds {id}, the model's vocabulary ends at {VocabularySize - 1}");
    }
}
