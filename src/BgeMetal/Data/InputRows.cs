using System.Text;

namespace BgeMetal.Data;

/// <summary>
/// The rows of an input file in either of its forms: one text a line, or one JSON object a line. The form follows from the name (<c>.txt</c>; <c>.jsonl</c>,
/// <c>.json</c>, <c>.ndjson</c>; each also with <c>.gz</c>); for any other name and for standard input it is JSON when the first character that is not blank is a brace.
/// </summary>
internal static class InputRows
{
    /// <summary>Streams the rows. Bad rows are counted in <paramref name="skipped"/> when it is given and stop the reading otherwise.</summary>
    /// <param name="pathOrDash">A file, or "-" for standard input.</param>
    /// <param name="fromJson">Makes a row of a JSON object.</param>
    /// <param name="fromText">Makes a row of a line of text; null where plain text means nothing, so that the file is JSON whatever its name.</param>
    /// <param name="skipped">Counts bad rows; null to throw at the first.</param>
    public static IEnumerable<T> Read<T>(string pathOrDash, Func<JsonRow, T> fromJson, Func<string, LineReader, T>? fromText, InvalidLines? skipped)
    {
        using LineReader lines = LineReader.Open(pathOrDash);
        foreach (T row in Read(lines, fromJson, fromText, skipped)) yield return row;
    }

    /// <summary>The same from an open reader, which the caller closes.</summary>
    public static IEnumerable<T> Read<T>(LineReader lines, Func<JsonRow, T> fromJson, Func<string, LineReader, T>? fromText, InvalidLines? skipped)
    {
        using JsonLineReader? json = fromText is null || IsJson(lines) ? new JsonLineReader(lines) : null;
        while (true)
        {
            T row;
            try
            {
                if (json is not null)
                {
                    if (!json.TryRead(out JsonRow fields)) yield break;
                    row = fromJson(fields);
                }
                else
                {
                    if (!lines.TryRead(out ReadOnlyMemory<byte> line)) yield break;
                    row = fromText!(Encoding.UTF8.GetString(line.Span), lines);
                }
            }
            catch (BgeMetalException e) when (skipped is not null && e.Line > 0)
            {
                skipped.Add(e);
                continue;
            }

            yield return row;
        }
    }

    private static bool IsJson(LineReader lines)
    {
        string name = lines.Source.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? lines.Source[..^3] : lines.Source;
        if (name.EndsWith(".txt", StringComparison.OrdinalIgnoreCase)) return false;
        foreach (string ending in (ReadOnlySpan<string>)[".jsonl", ".json", ".ndjson"])
            if (name.EndsWith(ending, StringComparison.OrdinalIgnoreCase)) return true;
        return lines.PeekNonBlank() == '{';
    }
}
