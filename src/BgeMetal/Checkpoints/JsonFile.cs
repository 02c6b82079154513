using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// A small JSON file read strictly: at most 32 MiB, UTF-8, no duplicate keys, no comments, at most 64 levels deep. The getters convert one field
/// each and name the field, its value and what was expected when they refuse.
/// </summary>
internal sealed class JsonFile
{
    /// <summary>No configuration or shard index of a real model comes near this size.</summary>
    internal const int LargestBytes = 32 << 20;

    private const string OfCheckpoint = "cannot read the checkpoint";

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 64 };

    private readonly string _failure;

    private JsonFile(string path, JsonElement root, string failure)
    {
        Path = path;
        Root = root;
        _failure = failure;
    }

    /// <summary>Where the file lies.</summary>
    internal string Path { get; }

    /// <summary>The parsed value; lives as long as this object.</summary>
    internal JsonElement Root { get; }

    /// <summary>Reads a file whose root must be an object.</summary>
    /// <param name="path">The file.</param>
    /// <param name="failure">What an error says could not be done, where the file is no part of a checkpoint: "cannot read the prompts".</param>
    internal static JsonFile ReadObject(string path, string failure = OfCheckpoint) => Read(path, failure).WithRoot(JsonValueKind.Object, "a JSON object");

    /// <summary>Reads a file whose root must be an array.</summary>
    internal static JsonFile ReadArray(string path) => Read(path, OfCheckpoint).WithRoot(JsonValueKind.Array, "a JSON array");

    /// <summary>Parses text that is already in memory, as if it were the file <paramref name="path"/>.</summary>
    internal static JsonFile Parse(ReadOnlyMemory<byte> utf8, string path, string failure = OfCheckpoint)
    {
        if (utf8.Span.StartsWith("\uFEFF"u8)) utf8 = utf8[3..];
        try
        {
            using JsonDocument document = JsonDocument.Parse(utf8, Strict);
            return new JsonFile(path, document.RootElement.Clone(), failure);
        }
        catch (JsonException e)
        {
            long line = (e.LineNumber ?? 0) + 1;
            string reason = e.LineNumber is null ? Reason(e) : $"not valid JSON at byte {e.BytePositionInLine} of line {line}: {Reason(e)}";
            throw new BgeMetalException(failure, reason, path, line, e);
        }
    }

    /// <summary>The field, or null where it is absent or null.</summary>
    internal JsonElement? Field(string name) =>
        Root.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

    /// <summary>An integer field between two limits; <paramref name="fallback"/> when it is absent, an error when there is none.</summary>
    internal int Integer(string name, int smallest, int largest, int? fallback = null)
    {
        if (Field(name) is not { } value) return fallback ?? throw Missing(name, $"an integer from {smallest} to {largest}");
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) && number >= smallest && number <= largest
            ? (int)number : throw Wrong(name, value, $"an integer from {smallest} to {largest}");
    }

    /// <summary>A real field in an interval that is open or closed at the lower end and open at the upper.</summary>
    internal double Real(string name, double smallest, double below, double fallback, bool lowerIncluded = true)
    {
        if (Field(name) is not { } value) return fallback;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number)
            && (number > smallest || (lowerIncluded && number == smallest)) && number < below
            ? number : throw Wrong(name, value, $"a number {(lowerIncluded ? "from" : "above")} {smallest} and below {below}");
    }

    /// <summary>A text field, or null when absent.</summary>
    internal string? Text(string name)
    {
        if (Field(name) is not { } value) return null;
        return value.ValueKind == JsonValueKind.String && TryText(value) is { } text ? text : throw Wrong(name, value, "a text");
    }

    /// <summary>A true/false field.</summary>
    internal bool Flag(string name, bool fallback)
    {
        if (Field(name) is not { } value) return fallback;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(name, value, "true or false");
    }

    /// <summary>The error for a field that has to be there.</summary>
    internal BgeMetalException Missing(string name, string expected) =>
        new(_failure, $"field {CheckpointErrors.Quote(name)} is missing, expected {expected}", Path);

    /// <summary>The error for a field of a wrong kind or value.</summary>
    internal BgeMetalException Wrong(string name, JsonElement value, string expected) =>
        new(_failure, $"field {CheckpointErrors.Quote(name)} is {Show(value)}, expected {expected}", Path);

    /// <summary>A text whose escapes are valid UTF-16, or null.</summary>
    internal static string? TryText(JsonElement value)
    {
        try { return value.GetString(); }
        catch (InvalidOperationException) { return null; }
    }

    private static string Show(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        _ => CheckpointErrors.Quote(value.GetRawText()),
    };

    private static JsonFile Read(string path, string failure)
    {
        try
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            if (stream.Length > LargestBytes) throw new BgeMetalException(failure, $"{stream.Length} bytes are more than the {LargestBytes} a JSON file may have here", path);
            byte[] bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            return Parse(bytes, path, failure);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw CheckpointErrors.Unreadable(path, e);
        }
    }

    private JsonFile WithRoot(JsonValueKind kind, string expected) =>
        Root.ValueKind == kind ? this : throw new BgeMetalException(_failure, $"the file holds {Root.ValueKind} at its root, expected {expected}", Path);

    private static string Reason(JsonException e)
    {
        string message = e.Message.ReplaceLineEndings(" ");
        int path = message.IndexOf(" Path: ", StringComparison.Ordinal), line = message.IndexOf(" LineNumber: ", StringComparison.Ordinal);
        int end = path >= 0 ? path : line >= 0 ? line : message.Length;
        return message[..Math.Min(end, 300)];
    }
}
