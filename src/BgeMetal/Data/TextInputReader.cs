namespace BgeMetal.Data;

/// <summary>
/// Streams texts from a file. Plain text: one text a line, an empty line is an empty text, so that line and row numbers agree. JSON lines:
/// <c>{"text": str, "id": str or number}</c>, <c>{"input_ids": [..]}</c> or <c>{"_id", "title", "text"}</c>; blank lines and unknown fields are ignored.
/// UTF-8; <c>.gz</c> of either; <c>-</c> is standard input, taken as JSON when it starts with a brace.
/// </summary>
public static class TextInputReader
{
    /// <summary>The texts of a file, read as they are asked for: also opening the file happens at the first one.</summary>
    /// <param name="pathOrDash">A file, or "-" for standard input.</param>
    /// <param name="skipped">When given, bad rows are counted there and passed over; when null the first bad row throws.</param>
    /// <exception cref="BgeMetalException">The file cannot be read, or a row is bad: the message names file and line and what was expected.</exception>
    public static IEnumerable<TextInput> Read(string pathOrDash, InvalidLines? skipped = null) => InputRows.Read(pathOrDash, FromJson, FromText, skipped);

    /// <summary>The same from an open reader, which the caller closes.</summary>
    internal static IEnumerable<TextInput> Read(LineReader lines, InvalidLines? skipped = null) => InputRows.Read(lines, FromJson, FromText, skipped);

    /// <summary>Title, one space and text, as FlagEmbedding and BEIR join them, without blanks at the ends.</summary>
    internal static string JoinTitle(string? title, string text) => string.IsNullOrEmpty(title) ? text.Trim() : (title + " " + text).Trim();

    private static TextInput FromText(string text, LineReader lines) => new() { Text = text, Source = lines.Source, Line = lines.Line };

    private static TextInput FromJson(JsonRow row)
    {
        int[]? ids = row.TokenIds("input_ids");
        string? text = ids is null ? row.RequiredTextOrIds() : row.Text("text");
        string? corpusId = row.Identifier("_id");
        return new TextInput
        {
            Id = row.Identifier("id") ?? corpusId,
            Text = corpusId is null || text is null ? text : JoinTitle(row.Text("title"), text),
            InputIds = ids,
            Source = row.Source,
            Line = row.Line,
        };
    }

    private static string RequiredTextOrIds(this JsonRow row) =>
        row.Text("text") ?? throw row.Missing("text", "a string (or \"input_ids\", a list of token ids)");
}
