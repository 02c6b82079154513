namespace BgeMetal.Data;

/// <summary>A text or a pair of texts to tokenise, with the settings of that row.</summary>
public readonly record struct TokenizeInput
{
    /// <summary>The row's own name, or null.</summary>
    public string? Id { get; init; }

    /// <summary>The text.</summary>
    public string Text { get; init; }

    /// <summary>The second text of a pair, or null.</summary>
    public string? Pair { get; init; }

    /// <summary>Whether the special tokens are added; true where the row does not say.</summary>
    public bool AddSpecialTokens { get; init; }

    /// <summary>The most tokens, special tokens included; null for no limit of the row's own.</summary>
    public int? MaxLength { get; init; }

    /// <summary>How to shorten: <c>longest_first</c>, <c>only_first</c>, <c>only_second</c> or <c>do_not_truncate</c>; null where the row does not say.</summary>
    public string? Truncation { get; init; }

    /// <summary>The file the row came from, as the user named it; "-" for standard input.</summary>
    public string Source { get; init; }

    /// <summary>The 1-based line in <see cref="Source"/>.</summary>
    public long Line { get; init; }
}

/// <summary>
/// Streams rows to tokenise: <c>{"id","text","pair","add_special_tokens","max_length","truncation"}</c>, all but the text optional and null like absent, other fields
/// ignored; or plain text, one text a line.
/// </summary>
public static class TokenizeInputReader
{
    private static readonly string[] s_truncations = ["longest_first", "only_first", "only_second", "do_not_truncate"];

    /// <summary>The rows of a file, read as they are asked for.</summary>
    /// <param name="pathOrDash">A file, its <c>.gz</c>, or "-" for standard input.</param>
    /// <param name="skipped">When given, bad rows are counted there and passed over; when null the first bad row throws.</param>
    /// <exception cref="BgeMetalException">The file cannot be read, or a row is bad: the message names file and line and what was expected.</exception>
    public static IEnumerable<TokenizeInput> Read(string pathOrDash, InvalidLines? skipped = null) => InputRows.Read(pathOrDash, FromJson, FromText, skipped);

    private static TokenizeInput FromText(string text, LineReader lines) => new() { Text = text, AddSpecialTokens = true, Source = lines.Source, Line = lines.Line };

    private static TokenizeInput FromJson(JsonRow row)
    {
        string? truncation = row.Text("truncation");
        if (truncation is not null && Array.IndexOf(s_truncations, truncation) < 0)
            throw row.Error($"\"truncation\" must be one of {string.Join(", ", s_truncations)}, found \"{truncation}\"");
        return new TokenizeInput
        {
            Id = row.Identifier("id"),
            Text = row.RequiredText("text"),
            Pair = row.Text("pair"),
            AddSpecialTokens = row.Boolean("add_special_tokens") ?? true,
            MaxLength = row.Integer("max_length", minimum: 1),
            Truncation = truncation,
            Source = row.Source,
            Line = row.Line,
        };
    }
}
