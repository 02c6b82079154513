using System.Text.Json;

namespace BgeMetal.Data;

/// <summary>
/// Reads a file of one JSON object a line. Blank lines are skipped (and counted in line numbers). One document is alive at a time, so memory does not grow with
/// the file. After an error about one row, the next call goes on with the following line.
/// </summary>
internal sealed class JsonLineReader(LineReader lines) : IDisposable
{
    private JsonDocument? _document;

    /// <summary>Opens a <c>.jsonl</c> file, its <c>.gz</c>, or standard input (<c>-</c>).</summary>
    public static JsonLineReader Open(string pathOrDash) => new(LineReader.Open(pathOrDash));

    /// <summary>The next row, valid until the next call; false at the end.</summary>
    /// <exception cref="BgeMetalException">The line is not one JSON object (with its number), or the file cannot be read.</exception>
    public bool TryRead(out JsonRow row)
    {
        _document?.Dispose();
        _document = null;
        row = default;
        ReadOnlyMemory<byte> line;
        do
        {
            if (!lines.TryRead(out line)) return false;
        }
        while (line.Span.IndexOfAnyExcept(" \t\r"u8) < 0);

        _document = Parse(line, lines.Source, lines.Line);
        row = new JsonRow(_document.RootElement, lines.Source, lines.Line);
        return true;
    }

    /// <summary>The JSON object that a line, which is not blank, holds; the caller disposes it while <paramref name="line"/> still has the bytes.</summary>
    /// <exception cref="BgeMetalException">The line is not one JSON object.</exception>
    public static JsonDocument Parse(ReadOnlyMemory<byte> line, string source, long number)
    {
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(line);
        }
        catch (JsonException e)
        {
            throw new BgeMetalException("bad input", line.Span.TrimStart(" \t"u8)[0] == '[' && number == 1
                ? "one JSON object a line was expected, found the start of an array"
                : $"not valid JSON at byte {(e.BytePositionInLine ?? 0) + 1} of the line: {Reason(e)}", source, number, e);
        }

        JsonValueKind kind = document.RootElement.ValueKind;
        if (kind == JsonValueKind.Object) return document;
        document.Dispose();
        throw new BgeMetalException("bad input", $"a JSON object was expected, found {JsonRow.Describe(kind)}", source, number);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _document?.Dispose();
        lines.Dispose();
    }

    private static string Reason(JsonException e)
    {
        int place = e.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return place < 0 ? e.Message : e.Message[..place];
    }
}
