using System.Text.Encodings.Web;
using System.Text.Json;
using BgeMetal.Files;

namespace BgeMetal.Cli.Output;

/// <summary>
/// Writes one JSON object a line to a file (which appears whole at <see cref="Commit"/>) or to the results. Text is written as it is, not escaped to ASCII.
/// </summary>
internal sealed class RowWriter : IDisposable
{
    private readonly AtomicFile? _file;
    private readonly BufferedStream _stream;
    private readonly Utf8JsonWriter _json;

    private RowWriter(AtomicFile? file, Stream target)
    {
        _file = file;
        _stream = new BufferedStream(target, 1 << 16);
        _json = new Utf8JsonWriter(_stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true });
    }

    /// <summary>The bytes of the rows, for writers of their own format.</summary>
    public Stream Stream => _stream;

    /// <summary>Opens <paramref name="output"/>; null and "-" are the results.</summary>
    /// <exception cref="BgeMetalException">The file cannot be written.</exception>
    public static RowWriter Open(Terminal terminal, string? output)
    {
        if (output is not null and not "-") return OfFile(AtomicFile.Create(output));
        terminal.FlushResults();
        terminal.StreamsResults = true;
        return new RowWriter(null, terminal.Results);
    }

    /// <summary>Writes one row.</summary>
    /// <param name="fields">Writes the fields; the braces come from here.</param>
    public void Write(Action<Utf8JsonWriter> fields)
    {
        _json.WriteStartObject();
        fields(_json);
        _json.WriteEndObject();
        _json.Flush();
        _stream.Write("\n"u8);
        _json.Reset();
    }

    /// <summary>Completes the output. Call once, last.</summary>
    public void Commit()
    {
        _stream.Flush();
        _file?.Commit();
    }

    /// <summary>Without <see cref="Commit"/> a file is not left behind.</summary>
    public void Dispose()
    {
        _json.Dispose();
        _file?.Dispose();
    }

    private static RowWriter OfFile(AtomicFile file) => new(file, file.Stream);
}
