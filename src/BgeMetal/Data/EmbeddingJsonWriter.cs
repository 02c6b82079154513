using System.Text.Encodings.Web;
using System.Text.Json;

namespace BgeMetal.Data;

/// <summary>
/// Writes vectors as JSON lines <c>{"id":..,"embedding":[..]}</c>. Each number is the shortest decimal that reads back as the same float32. UTF-8, one
/// <c>\n</c> after each row. Does not own the stream.
/// </summary>
public sealed class EmbeddingJsonWriter : IDisposable
{
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    private readonly Stream _stream;
    private readonly Utf8JsonWriter _json;

    /// <summary>Writes to <paramref name="stream"/>, which stays open.</summary>
    public EmbeddingJsonWriter(Stream stream)
    {
        _stream = stream;
        _json = new Utf8JsonWriter(stream, s_options);
    }

    /// <summary>Rows written so far.</summary>
    public long Rows { get; private set; }

    /// <summary>Writes one row; without an id the row gets <c>"id":null</c>.</summary>
    /// <exception cref="BgeMetalException">A value is NaN or infinite, which JSON cannot say, or the stream fails.</exception>
    public void Write(string? id, ReadOnlySpan<float> embedding)
    {
        foreach (float value in embedding)
            if (!float.IsFinite(value))
                throw new BgeMetalException("cannot write the embedding", $"row {Rows}{(id is null ? "" : $" (id \"{id}\")")} holds {value}, which JSON cannot say");
        _json.WriteStartObject();
        if (id is null) _json.WriteNull("id"u8);
        else _json.WriteString("id"u8, id);
        _json.WriteStartArray("embedding"u8);
        foreach (float value in embedding) _json.WriteNumberValue(value);
        _json.WriteEndArray();
        _json.WriteEndObject();
        try
        {
            _json.Flush();
            _stream.Write("\n"u8);
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot write the embeddings", e.Message, innerException: e);
        }

        _json.Reset();
        Rows++;
    }

    /// <inheritdoc/>
    public void Dispose() => _json.Dispose();
}
