using System.Text.Json;
using BgeMetal.Data;

namespace BgeMetal.Training.Feedback;

/// <summary>A row to score: its JSON as it is, and what the language model reads for each candidate.</summary>
/// <param name="Json">The row's line.</param>
/// <param name="Texts">For each candidate the whole text, and where the answer starts in it.</param>
/// <param name="Source">The file.</param>
/// <param name="Line">The line.</param>
internal sealed record FeedbackRow(byte[] Json, IReadOnlyList<(string Text, int AnswerStart)> Texts, string Source, long Line)
{
    /// <summary>Reads a row.</summary>
    /// <exception cref="BgeMetalException">A field is missing or of the wrong type, or there is no prompt for its task.</exception>
    public static FeedbackRow Read(byte[] line, string source, long number, string? task, FeedbackPrompts prompts)
    {
        LineReader.CheckUtf8(line, source, number);
        using JsonDocument document = JsonLineReader.Parse(line, source, number);
        JsonRow row = new(document.RootElement, source, number);
        string query = row.RequiredText("query");
        string? answer = row.Texts("answers") is { Length: > 0 } answers ? answers[0] : row.Text("answer");
        if (string.IsNullOrEmpty(answer)) throw row.Error("the row has no answer to measure: \"answers\": [\"..\"] was expected");
        string[] candidates = row.Texts("history") ?? [.. row.Texts("pos") ?? [], .. row.Texts("neg") ?? []];
        if (candidates.Length == 0) throw row.Error("the row has no candidate: \"pos\" and \"neg\", or \"history\", were expected");
        string named = row.Text("task") ?? task ?? throw row.Error("the row names no \"task\": --task TASK gives one to all such rows");
        FeedbackPrompt prompt = prompts.For(named, source, number);
        string after = prompt.After(answer);
        return new FeedbackRow(line, [.. candidates.Select(candidate => prompt.Before(query, candidate)).Select(before => (before + after, before.Length))], source, number);
    }
}
