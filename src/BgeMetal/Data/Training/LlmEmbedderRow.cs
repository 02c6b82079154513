using System.Text.Json;

namespace BgeMetal.Data.Training;

/// <summary>
/// A row of the LLM-Embedder's data: <c>{"query", "pos": [..], "neg": [..], "teacher_scores": [..], "task"}</c>, or <c>"history": [..]</c> in the place of both
/// lists: turns of a dialogue among which the teacher names the positive. FlagEmbedding's <c>pos_scores</c> and <c>neg_scores</c> do as well.
/// </summary>
internal sealed class LlmEmbedderRow
{
    /// <summary>Where the row stands.</summary>
    public required RowPlace Place { get; init; }

    /// <summary>The query.</summary>
    public required TrainingText Query { get; init; }

    /// <summary>Positives, then negatives.</summary>
    public required TrainingText[] Candidates { get; init; }

    /// <summary>How many of <see cref="Candidates"/> are positives; 0 where the teacher names the positive.</summary>
    public required int Positives { get; init; }

    /// <summary>A teacher's score of each candidate, or null.</summary>
    public float[]? Scores { get; init; }

    /// <summary>The task the row names, or null.</summary>
    public string? Task { get; init; }

    /// <summary>Reads a row.</summary>
    /// <param name="json">The row.</param>
    /// <param name="maxLength">The most tokens of a text given as <c>input_ids</c>; 0 for no limit.</param>
    /// <param name="vocabularySize">The bound of such ids; 0 for no check.</param>
    /// <param name="hasTokenizer">Whether texts can be tokenised.</param>
    /// <exception cref="BgeMetalException">A field is missing or of the wrong type, scores do not match the texts, or nothing tells which candidate is positive.</exception>
    public static LlmEmbedderRow Read(JsonRow json, int maxLength = 0, int vocabularySize = 0, bool hasTokenizer = true)
    {
        TrainingText query = json.Field("query") is JsonElement value ? TrainingText.From(json, value, "\"query\"") : throw json.Missing("query", "a string (or {\"input_ids\": [..]})");
        TrainingText[]? history = TrainingText.List(json, "history");
        TrainingText[] positives = history is null ? TrainingText.List(json, "pos") ?? [] : [];
        TrainingText[] negatives = history ?? TrainingText.List(json, "neg") ?? [];
        TrainingText[] candidates = [.. positives, .. negatives];
        float[]? scores = ReadScores(json, positives.Length, negatives.Length);
        if (candidates.Length == 0) throw json.Error("the row has no candidate: \"pos\" and \"neg\", or \"history\", were expected");
        if (positives.Length == 0 && scores is null)
            throw json.Error("the row has no positive and no \"teacher_scores\" that would tell which candidate to take for one");
        Check(json, query, "\"query\"", maxLength, vocabularySize, hasTokenizer);
        for (int i = 0; i < candidates.Length; i++) Check(json, candidates[i], $"candidate {i}", maxLength, vocabularySize, hasTokenizer);
        return new LlmEmbedderRow
        {
            Place = new RowPlace(json.Source, json.Line),
            Query = query,
            Candidates = candidates,
            Positives = positives.Length,
            Scores = scores,
            Task = json.Text("task"),
        };
    }

    private static float[]? ReadScores(JsonRow json, int positives, int negatives)
    {
        if (json.Numbers("teacher_scores") is { } teacher)
        {
            return teacher.Length == positives + negatives ? teacher
                : throw json.Error($"\"teacher_scores\" has {teacher.Length} numbers, the candidates are {positives} + {negatives}");
        }
        float[]? positive = json.Numbers("pos_scores"), negative = json.Numbers("neg_scores");
        if (positive is null || negative is null) return null;
        return positive.Length == positives && negative.Length == negatives ? [.. positive, .. negative]
            : throw json.Error($"\"pos_scores\" and \"neg_scores\" have {positive.Length} and {negative.Length} numbers, the candidates are {positives} + {negatives}");
    }

    private static void Check(JsonRow json, TrainingText text, string name, int maxLength, int vocabularySize, bool hasTokenizer)
    {
        if (text.InputIds is not { } ids)
        {
            if (!hasTokenizer) throw json.Error($"{name} is a text, but the model has no tokenizer: {{\"input_ids\": [..]}} was expected");
            return;
        }
        if (maxLength > 0 && ids.Length > maxLength) throw json.Error($"{name}.input_ids has {ids.Length} tokens, at most {maxLength} are allowed");
        foreach (int id in ids)
            if (vocabularySize > 0 && id >= vocabularySize) throw json.Error($"{name}.input_ids holds {id}, the model's vocabulary ends at {vocabularySize - 1}");
    }
}
