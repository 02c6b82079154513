using System.Text;

namespace BgeMetal.Text;

/// <summary>Reads vocab.txt: a token a line, the id is the line's number from 0.</summary>
internal static class VocabularyFile
{
    private const long MaxBytes = 256L << 20;

    /// <summary>The tokens in the order of their ids. Lines end at a line feed alone: a token may be any other line separator.</summary>
    /// <exception cref="BgeMetalException">The file is empty, too large, not UTF-8, or has a token twice.</exception>
    public static string[] Read(string file)
    {
        try
        {
            if (new FileInfo(file).Length > MaxBytes) throw new BgeMetalException("cannot read the vocabulary", $"more than {MaxBytes} bytes", file);
            string text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(File.ReadAllBytes(file));
            text = text.StartsWith('\uFEFF') && text.Length > 1 && text[1] != '\n' ? text[1..] : text;
            string[] lines = (text.EndsWith('\n') ? text[..^1] : text).Split('\n');
            for (int i = 0; i < lines.Length; i++)
                if (lines[i].EndsWith('\r')) lines[i] = lines[i][..^1];
            Check(lines, file);
            return lines;
        }
        catch (DecoderFallbackException e)
        {
            throw new BgeMetalException("cannot read the vocabulary", "it is not UTF-8", file, innerException: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read the vocabulary", e.Message, file, innerException: e);
        }
    }

    private static void Check(string[] lines, string file)
    {
        if (lines is [""]) throw new BgeMetalException("cannot read the vocabulary", "it is empty", file);
        Dictionary<string, int> seen = new(lines.Length, StringComparer.Ordinal);
        for (int i = 0; i < lines.Length; i++)
            if (!seen.TryAdd(lines[i], i))
                throw new BgeMetalException("cannot read the vocabulary", $"the token '{lines[i]}' is already in line {seen[lines[i]] + 1}", file, i + 1);
    }
}
