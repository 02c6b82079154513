using System.Text.Json;

namespace BgeMetal.Data.Training;

/// <summary>A text of a training row, or <c>{"input_ids": [..]}</c>: tokens already made, special tokens included. Exactly one of the two is there.</summary>
internal readonly record struct TrainingText(string? Text, int[]? InputIds)
{
    /// <summary>The text or the tokens in <paramref name="value"/>; <paramref name="name"/>, with <paramref name="index"/> if it is an item of a list, stands for it in errors.</summary>
    /// <exception cref="BgeMetalException">It is neither a string nor such an object.</exception>
    public static TrainingText From(JsonRow row, JsonElement value, string name, int index = -1)
    {
        if (value.ValueKind == JsonValueKind.String) return new TrainingText(row.TextOf(value, name, index), null);
        string place = index < 0 ? name : $"{name}[{index}]";
        if (value.ValueKind != JsonValueKind.Object) throw row.Wrong(place, "a string or {\"input_ids\": [..]}", value);
        JsonElement ids = new JsonRow(value, row.Source, row.Line).Field("input_ids")
            ?? throw row.Error($"{place} is an object without \"input_ids\": a string or {{\"input_ids\": [..]}} was expected");
        return new TrainingText(null, row.TokenIdsOf(ids, $"{place}.input_ids"));
    }

    /// <summary>The list of texts in a field, or null when the field is absent or null.</summary>
    /// <exception cref="BgeMetalException">It is not a list of texts.</exception>
    public static TrainingText[]? List(JsonRow row, string name)
    {
        if (row.Field(name) is not JsonElement list) return null;
        string quoted = $"\"{name}\"";
        if (list.ValueKind != JsonValueKind.Array) throw row.Wrong(quoted, "a list of strings", list);
        TrainingText[] texts = new TrainingText[list.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in list.EnumerateArray())
        {
            texts[i] = From(row, item, quoted, i);
            i++;
        }

        return texts;
    }
}
