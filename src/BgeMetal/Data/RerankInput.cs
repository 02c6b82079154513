namespace BgeMetal.Data;

/// <summary>A query with the passages to score against it, or one pair already joined and tokenised.</summary>
public readonly record struct RerankInput
{
    /// <summary>The row's own name, or null.</summary>
    public string? Id { get; init; }

    /// <summary>The query; null where <see cref="InputIds"/> is given.</summary>
    public string? Query { get; init; }

    /// <summary>The passages, in the order of the scores to write; empty where <see cref="InputIds"/> is given.</summary>
    public IReadOnlyList<string> Passages { get; init; }

    /// <summary>One joined pair, special tokens included; null where texts are given.</summary>
    public int[]? InputIds { get; init; }

    /// <summary>The file the row came from, as the user named it; "-" for standard input.</summary>
    public string Source { get; init; }

    /// <summary>The 1-based line in <see cref="Source"/>.</summary>
    public long Line { get; init; }
}

/// <summary>Streams rows of pairs: <c>{"query","passage"}</c>, <c>{"query","passages":[..]}</c> or <c>{"input_ids":[..]}</c>, each with an optional <c>"id"</c>. JSON lines whatever the file's name.</summary>
public static class RerankInputReader
{
    /// <summary>The rows of a file, read as they are asked for.</summary>
    /// <param name="pathOrDash">A file, its <c>.gz</c>, or "-" for standard input.</param>
    /// <param name="skipped">When given, bad rows are counted there and passed over; when null the first bad row throws.</param>
    /// <exception cref="BgeMetalException">The file cannot be read, or a row is bad: the message names file and line and what was expected.</exception>
    public static IEnumerable<RerankInput> Read(string pathOrDash, InvalidLines? skipped = null) => InputRows.Read(pathOrDash, FromJson, fromText: null, skipped);

    private static RerankInput FromJson(JsonRow row)
    {
        string? id = row.Identifier("id");
        if (row.TokenIds("input_ids") is int[] ids)
            return new RerankInput { Id = id, Passages = [], InputIds = ids, Source = row.Source, Line = row.Line };
        string query = row.Text("query") ?? throw row.Missing("query", "a string (or \"input_ids\", a joined pair)");
        return new RerankInput { Id = id, Query = query, Passages = Passages(row), Source = row.Source, Line = row.Line };
    }

    private static string[] Passages(JsonRow row)
    {
        string? single = row.Text("passage");
        string[]? list = row.Texts("passages");
        if (single is not null && list is not null) throw row.Error("\"passage\" and \"passages\" are both there: one of them was expected");
        return list ?? (single is not null ? [single] : throw row.Missing("passage", "a string (or \"passages\", a list of strings)"));
    }
}
