namespace BgeMetal.Data;

/// <summary>A text to embed, or tokens already made. At least one of <see cref="Text"/> and <see cref="InputIds"/> is there; the ids win where both are.</summary>
public readonly record struct TextInput
{
    /// <summary>The row's own name, or null: <c>"id"</c> or <c>"_id"</c>; a number as it is written.</summary>
    public string? Id { get; init; }

    /// <summary>The text. Of a corpus row <c>{"_id","title","text"}</c>: title, one space, text.</summary>
    public string? Text { get; init; }

    /// <summary>Token ids with the special tokens included, or null. Not negative; the model's vocabulary is checked where they are used.</summary>
    public int[]? InputIds { get; init; }

    /// <summary>The file the row came from, as the user named it; "-" for standard input.</summary>
    public string Source { get; init; }

    /// <summary>The 1-based line in <see cref="Source"/>.</summary>
    public long Line { get; init; }
}
