namespace BgeMetal.Text;

/// <summary>Repairs UTF-16.</summary>
internal static class WellFormedText
{
    /// <summary>The text with every lone surrogate replaced by U+FFFD; the same span if there is none.</summary>
    public static ReadOnlySpan<char> Of(ReadOnlySpan<char> text)
    {
        int at = text.IndexOfAnyInRange('\uD800', '\uDFFF');
        if (at < 0) return text;
        char[]? copy = null;
        for (int i = at; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i])) continue;
            if (char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1])) i++;
            else (copy ??= text.ToArray())[i] = '\uFFFD';
        }
        return copy ?? text;
    }
}
