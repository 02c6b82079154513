using System.Text.Encodings.Web;
using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Retrieval.Mining;

/// <summary>A row of the training file: what mining needs of it, and all that must come out again.</summary>
/// <param name="Place">Where it stands.</param>
/// <param name="Query">The query.</param>
/// <param name="Positives">Texts that answer it, at least one.</param>
/// <param name="Negatives">Texts that do not.</param>
/// <param name="Fields">The row as a JSON object, without the fields that are written anew.</param>
internal sealed record MiningRow(RowPlace Place, MiningText Query, MiningText[] Positives, MiningText[] Negatives, byte[] Fields)
{
    private static readonly TrainingRowRules s_rules = new(NeedsNegatives: false);

    /// <summary>How rows are written: text as it is, not escaped to ASCII.</summary>
    public static JsonWriterOptions WriterOptions { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Streams a file of rows, whose negatives are to be replaced.</summary>
    /// <exception cref="BgeMetalException">A row is malformed; names file and line.</exception>
    public static IEnumerable<MiningRow> Read(string path, InvalidLines? skipped) => Read(path, skipped, "neg", "neg_scores", "teacher_scores");

    /// <summary>Streams a file of rows; <paramref name="replaced"/> names the fields that are written anew.</summary>
    /// <exception cref="BgeMetalException">A row is malformed; names file and line.</exception>
    public static IEnumerable<MiningRow> Read(string path, InvalidLines? skipped, params string[] replaced) =>
        InputRows.Read(path, json => From(json, replaced), null, skipped);

    /// <summary>Writes the row as one line, with new negatives.</summary>
    public void Write(Stream output, IReadOnlyList<MiningText> negatives) => Write(output, json =>
    {
        json.WriteStartArray("neg"u8);
        foreach (MiningText text in negatives) text.Write(json);
        json.WriteEndArray();
    });

    /// <summary>Writes the row as one line, the replaced fields last.</summary>
    public void Write(Stream output, Action<Utf8JsonWriter> replaced)
    {
        System.Buffers.ArrayBufferWriter<byte> fields = new();
        using Utf8JsonWriter json = new(fields, WriterOptions);
        json.WriteStartObject();
        replaced(json);
        json.WriteEndObject();
        json.Flush();
        output.Write(Fields.AsSpan(0, Fields.Length - 1));
        output.Write(","u8);
        output.Write(fields.WrittenSpan[1..]);
        output.Write("\n"u8);
    }

    private static MiningRow From(JsonRow json, string[] replaced)
    {
        TrainingRow row = s_rules.Read(json);
        System.Buffers.ArrayBufferWriter<byte> fields = new();
        using Utf8JsonWriter writer = new(fields, WriterOptions);
        writer.WriteStartObject();
        json.WriteFields(writer, replaced);
        writer.WriteEndObject();
        writer.Flush();
        return new MiningRow(row.Place, MiningText.From(row.Query), Array.ConvertAll(row.Positives, MiningText.From), Array.ConvertAll(row.Negatives, MiningText.From),
            fields.WrittenSpan.ToArray());
    }
}
