using System.Text.Json;

namespace BgeMetal.Text;

/// <summary>A value in a JSON file, with where it is, so that every mistake can be named. All readers throw <see cref="BgeMetalException"/>.</summary>
internal readonly struct JsonField
{
    private const long MaxBytes = 512L << 20;
    private readonly JsonElement _element;

    private JsonField(JsonElement element, string path, string file)
    {
        _element = element;
        Path = path;
        File = file;
    }

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>Where in the file, as "model.vocab"; empty for the whole.</summary>
    public string Path { get; }

    /// <summary>Whether this is JSON's null.</summary>
    public bool IsNull => _element.ValueKind == JsonValueKind.Null;

    /// <summary>Whether this is a string.</summary>
    public bool IsString => _element.ValueKind == JsonValueKind.String;

    /// <summary>Whether this is an object.</summary>
    public bool IsObject => _element.ValueKind == JsonValueKind.Object;

    /// <summary>Whether this is an array.</summary>
    public bool IsArray => _element.ValueKind == JsonValueKind.Array;

    /// <summary>Parses a file whose top is an object.</summary>
    public static JsonField Read(string file)
    {
        try
        {
            FileInfo info = new(file);
            if (info.Length > MaxBytes) throw new BgeMetalException("cannot read the tokenizer", $"{info.Length} bytes are more than the {MaxBytes} allowed", file);
            byte[] bytes = System.IO.File.ReadAllBytes(file);
            ReadOnlyMemory<byte> json = bytes.AsSpan().StartsWith("\uFEFF"u8) ? bytes.AsMemory(3) : bytes;
            JsonField node = new(JsonDocument.Parse(json).RootElement, "", file);
            return node.IsObject ? node : throw node.Wrong("an object");
        }
        catch (JsonException e)
        {
            throw new BgeMetalException("cannot read the tokenizer", $"no valid JSON at byte {e.BytePositionInLine} of the line: {FirstSentence(e.Message)}", file,
                (e.LineNumber ?? -1) + 1, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read the tokenizer", e.Message, file, innerException: e);
        }
    }

    /// <summary>A member that must be there.</summary>
    public JsonField this[string name] => Find(name) ?? throw new BgeMetalException(What, $"there is no \"{name}\"", File);

    /// <summary>A member, or null if it is missing; JSON's null is a value.</summary>
    public JsonField? Find(string name)
    {
        if (!IsObject) throw Wrong("an object");
        return _element.TryGetProperty(name, out JsonElement value) ? new JsonField(value, Below(name), File) : null;
    }

    /// <summary>A member, or null if it is missing or JSON's null.</summary>
    public JsonField? FindValue(string name) => Find(name) is { IsNull: false } node ? node : null;

    /// <summary>The members of an object in the file's order.</summary>
    public IEnumerable<(string Name, JsonField Value)> Members()
    {
        if (!IsObject) throw Wrong("an object");
        foreach (JsonProperty property in _element.EnumerateObject())
        {
            string name = Guard(property, static p => p.Name);
            yield return (name, new JsonField(property.Value, Path, File));
        }
    }

    /// <summary>The number of elements of an array.</summary>
    public int Count => IsArray ? _element.GetArrayLength() : throw Wrong("an array");

    /// <summary>The elements of an array.</summary>
    public IEnumerable<JsonField> Elements()
    {
        if (!IsArray) throw Wrong("an array");
        int i = 0;
        foreach (JsonElement element in _element.EnumerateArray()) yield return new JsonField(element, $"{Path}[{i++}]", File);
    }

    /// <summary>The vocabulary entries [piece, score] of an array, without a path for each.</summary>
    public IEnumerable<(string Piece, double Score)> ScoredPieces()
    {
        if (!IsArray) throw Wrong("an array");
        int i = 0;
        foreach (JsonElement element in _element.EnumerateArray())
        {
            if (element.ValueKind != JsonValueKind.Array || element.GetArrayLength() != 2 || element[0].ValueKind != JsonValueKind.String
                || element[1].ValueKind != JsonValueKind.Number || !element[1].TryGetDouble(out double score))
                throw new BgeMetalException(What, $"entry {i} is not a pair of a string and a number", File);
            yield return (Guard(element[0], static e => e.GetString()!), score);
            i++;
        }
    }

    /// <summary>A string.</summary>
    public string String() => IsString ? Guard(_element, static e => e.GetString()!) : throw Wrong("a string");

    /// <summary>True or false.</summary>
    public bool Boolean() => _element.ValueKind is JsonValueKind.True or JsonValueKind.False ? _element.GetBoolean() : throw Wrong("true or false");

    /// <summary>A whole number from 0 to <paramref name="max"/>.</summary>
    public int Number(int max) => _element.ValueKind == JsonValueKind.Number && _element.TryGetInt32(out int value) && value >= 0 && value <= max
        ? value : throw Wrong($"a whole number from 0 to {max}");

    /// <summary>The error that this is not what it should be.</summary>
    public BgeMetalException Wrong(string expected) => new(What, $"{expected} was expected, found {Describe()}", File);

    /// <summary>The error that this asks for something that is not supported.</summary>
    public BgeMetalException Unsupported(string component) => new(What, $"{component} is not supported", File);

    private string What => Path.Length == 0 ? "cannot read the tokenizer" : $"tokenizer field '{Path}'";

    private string Below(string name) => Path.Length == 0 ? name : $"{Path}.{name}";

    private string Describe()
    {
        string raw = _element.ValueKind is JsonValueKind.Object ? "an object" : _element.ValueKind is JsonValueKind.Array ? "an array" : _element.GetRawText();
        return raw.Length <= 60 ? raw : raw[..60] + "...";
    }

    private TResult Guard<T, TResult>(T value, Func<T, TResult> read)
    {
        try
        {
            return read(value);
        }
        catch (InvalidOperationException e)
        {
            throw new BgeMetalException(What, "a string holds half a surrogate pair or bytes that are not UTF-8", File, innerException: e);
        }
    }

    private static string FirstSentence(string message) => message.Split(". ")[0].TrimEnd('.');
}
