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
/// <param name="Fields">The row as a JSON object, without its negatives and their scores.</param>
internal sealed record MiningRow(RowPlace Place, MiningText Query, MiningText[] Positives, MiningText[] Negatives, byte[] Fields)
{
    private static readonly TrainingRowRules s_rules = new(NeedsNegatives: false);

    /// <summary>How rows are written: text as it is, not escaped to ASCII.</summary>
    public static JsonWriterOptions WriterOptions { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Streams a file of rows.</summary>
    /// <exception cref="BgeMetalException">A row is malformed; names file and line.</exception>
    public static IEnumerable<MiningRow> Read(string path, InvalidLines? skipped) => InputRows.Read(path, From, null, skipped);

    /// <summary>Writes the row as one line, with new negatives.</summary>
    public void Write(Stream output, IReadOnlyList<MiningText> negatives)
    {
        output.Write(Fields.AsSpan(0, Fields.Length - 1));
        output.Write(",\"neg\":"u8);
        using Utf8JsonWriter json = new(output, WriterOptions);
        json.WriteStartArray();
        foreach (MiningText text in negatives) text.Write(json);
        json.WriteEndArray();
        json.Flush();
        output.Write("}\n"u8);
    }

    private static MiningRow From(JsonRow json)
    {
        TrainingRow row = s_rules.Read(json);
        System.Buffers.ArrayBufferWriter<byte> fields = new();
        using Utf8JsonWriter writer = new(fields, WriterOptions);
        writer.WriteStartObject();
        json.WriteFields(writer, "neg", "neg_scores", "teacher_scores");
        writer.WriteEndObject();
        writer.Flush();
        return new MiningRow(row.Place, MiningText.From(row.Query), Array.ConvertAll(row.Positives, MiningText.From), Array.ConvertAll(row.Negatives, MiningText.From),
            fields.WrittenSpan.ToArray());
    }
}
