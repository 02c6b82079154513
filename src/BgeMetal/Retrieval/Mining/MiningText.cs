using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Retrieval.Mining;

/// <summary>A text of the corpus or a row; tokens already made are kept as their ids, separated by commas. Two are the same when they are equal.</summary>
/// <param name="Content">The text, or the ids.</param>
/// <param name="IsTokens">Which of the two.</param>
internal readonly record struct MiningText(string Content, bool IsTokens)
{
    /// <summary>A text of a row.</summary>
    public static MiningText From(TrainingText text) => From(text.Text, text.InputIds);

    /// <summary>A text, or tokens where there are some.</summary>
    public static MiningText From(string? text, int[]? ids) => ids is null ? new MiningText(text ?? "", false) : new MiningText(string.Join(',', ids), true);

    /// <summary>A key of 128 bits; equal keys of different texts are not to be expected.</summary>
    public UInt128 Key()
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes((IsTokens ? "i" : "t") + Content), hash);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }

    /// <summary>What the embedder takes.</summary>
    public TextInput ToInput(string source, long line) => IsTokens
        ? new TextInput { InputIds = Ids(), Source = source, Line = line }
        : new TextInput { Text = Content, Source = source, Line = line };

    /// <summary>Writes it as an item of a list.</summary>
    public void Write(Utf8JsonWriter json)
    {
        if (!IsTokens)
        {
            json.WriteStringValue(Content);
            return;
        }
        json.WriteStartObject();
        json.WriteStartArray("input_ids"u8);
        foreach (int id in Ids()) json.WriteNumberValue(id);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private int[] Ids() => Array.ConvertAll(Content.Split(','), id => int.Parse(id, System.Globalization.CultureInfo.InvariantCulture));
}
