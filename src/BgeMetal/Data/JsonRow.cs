using System.Globalization;
using System.Text.Json;

namespace BgeMetal.Data;

/// <summary>
/// One JSON object of a line, with typed fields. A field that is absent or null reads as null; a field of the wrong type is an error that names the field,
/// what was expected, what was found, and the file and line. Fields nobody asks for are ignored.
/// </summary>
internal readonly struct JsonRow(JsonElement root, string source, long line)
{
    /// <summary>The file as the user named it, or "-".</summary>
    public string Source => source;

    /// <summary>The 1-based line of the row.</summary>
    public long Line => line;

    /// <summary>An error about this row.</summary>
    public BgeMetalException Error(string why, Exception? cause = null) => new("bad input", why, source, line, cause);

    /// <summary>The field, or null when it is absent or null.</summary>
    public JsonElement? Field(string name)
    {
        try
        {
            return root.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;
        }
        catch (InvalidOperationException e)
        {
            throw Error("a field's name holds half of a surrogate pair", e);
        }
    }

    /// <summary>A string field, or null.</summary>
    public string? Text(string name) => Field(name) is JsonElement value ? TextOf(value, $"\"{name}\"") : null;

    /// <summary>A string field that must be there.</summary>
    public string RequiredText(string name) => Text(name) ?? throw Missing(name, "a string");

    /// <summary>A list of strings, or null.</summary>
    public string[]? Texts(string name)
    {
        if (Field(name) is not JsonElement value) return null;
        if (value.ValueKind != JsonValueKind.Array) throw Wrong($"\"{name}\"", "a list of strings", value);
        string[] texts = new string[value.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            texts[i] = TextOf(item, $"\"{name}\"", i);
            i++;
        }

        return texts;
    }

    /// <summary>A list of finite numbers, or null.</summary>
    public float[]? Numbers(string name)
    {
        if (Field(name) is not JsonElement value) return null;
        if (value.ValueKind != JsonValueKind.Array) throw Wrong($"\"{name}\"", "a list of numbers", value);
        float[] numbers = new float[value.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number) throw Wrong($"\"{name}\"[{i}]", "a number", item);
            if (!item.TryGetSingle(out numbers[i]) || !float.IsFinite(numbers[i])) throw Error($"\"{name}\"[{i}] is out of range: {Shortened(item)}");
            i++;
        }

        return numbers;
    }

    /// <summary>An identifier: a string, or a number taken as it is written; or null.</summary>
    public string? Identifier(string name)
    {
        if (Field(name) is not JsonElement value) return null;
        return value.ValueKind switch
        {
            JsonValueKind.String => TextOf(value, $"\"{name}\""),
            JsonValueKind.Number => value.GetRawText(),
            _ => throw Wrong($"\"{name}\"", "a string or a number", value),
        };
    }

    /// <summary>A whole number in [<paramref name="minimum"/>, int.MaxValue], or null.</summary>
    public int? Integer(string name, int minimum)
    {
        if (Field(name) is not JsonElement value) return null;
        if (value.ValueKind != JsonValueKind.Number) throw Wrong($"\"{name}\"", "a whole number", value);
        if (!value.TryGetInt32(out int number) || number < minimum)
            throw Error(string.Create(CultureInfo.InvariantCulture, $"\"{name}\" must be a whole number from {minimum} to {int.MaxValue}, found {Shortened(value)}"));
        return number;
    }

    /// <summary>A boolean, or null.</summary>
    public bool? Boolean(string name) => Field(name) is not JsonElement value ? null : value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong($"\"{name}\"", "true or false", value),
    };

    /// <summary>A list of at least one token id (special tokens included), each in [0, int.MaxValue], or null.</summary>
    public int[]? TokenIds(string name) => Field(name) is JsonElement value ? TokenIdsOf(value, $"\"{name}\"") : null;

    /// <summary>The token ids in <paramref name="value"/>; <paramref name="name"/> stands for it in errors.</summary>
    public int[] TokenIdsOf(JsonElement value, string name)
    {
        if (value.ValueKind != JsonValueKind.Array) throw Wrong(name, "a list of token ids", value);
        int[] ids = new int[value.GetArrayLength()];
        if (ids.Length == 0) throw Error($"{name} is empty: at least one token id was expected");
        int i = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number) throw Wrong($"{name}[{i}]", "a token id", item);
            if (!item.TryGetInt32(out ids[i]) || ids[i] < 0)
                throw Error($"{name}[{i}] must be a token id from 0 to {int.MaxValue}, found {Shortened(item)}");
            i++;
        }

        return ids;
    }

    /// <summary>The string in <paramref name="value"/>; <paramref name="name"/>, with <paramref name="index"/> if it is an item of a list, stands for it in errors.</summary>
    public string TextOf(JsonElement value, string name, int index = -1)
    {
        if (value.ValueKind != JsonValueKind.String) throw Wrong(Place(name, index), "a string", value);
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw Error($"{Place(name, index)} holds half of a surrogate pair (a \\uD800 to \\uDFFF escape on its own)", e);
        }
    }

    /// <summary>The error about a field that is absent or null.</summary>
    public BgeMetalException Missing(string name, string expected) =>
        Error(root.TryGetProperty(name, out _) ? $"\"{name}\" must be {expected}, found null" : $"\"{name}\" is missing: {expected} was expected");

    /// <summary>The kind of a JSON value, with its article.</summary>
    public static string Describe(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        _ => "null",
    };

    /// <summary>The error about a value of the wrong type.</summary>
    public BgeMetalException Wrong(string name, string expected, JsonElement found) => Error($"{name} must be {expected}, found {Describe(found.ValueKind)}");

    /// <summary>Writes every field but the named ones, with the values as they are.</summary>
    public void WriteFields(Utf8JsonWriter json, params ReadOnlySpan<string> except)
    {
        foreach (JsonProperty property in root.EnumerateObject())
        {
            try
            {
                if (!except.Contains(property.Name)) property.WriteTo(json);
            }
            catch (Exception e) when (e is InvalidOperationException or ArgumentException)
            {
                throw Error("a field holds half of a surrogate pair (a \\uD800 to \\uDFFF escape on its own)", e);
            }
        }
    }

    private static string Place(string name, int index) => index < 0 ? name : $"{name}[{index}]";

    private static string Shortened(JsonElement number)
    {
        string text = number.GetRawText();
        return text.Length <= 24 ? text : text[..24] + "...";
    }
}
