using System.Text;
using System.Text.RegularExpressions;

namespace BgeMetal.Text;

/// <summary>Replaces every match of a pattern by fixed text. Patterns run on the non-backtracking engine, so that no file can make them explode.</summary>
internal sealed class ReplaceNormalizer : TextNormalizer
{
    private readonly Regex _pattern;
    private readonly int[] _content;

    /// <param name="pattern">A regular expression, or plain text if <paramref name="literal"/>.</param>
    /// <param name="content">What replaces a match.</param>
    /// <param name="literal">Whether the pattern is plain text.</param>
    /// <exception cref="ArgumentException">The pattern is no regular expression.</exception>
    /// <exception cref="NotSupportedException">The pattern needs backtracking.</exception>
    public ReplaceNormalizer(string pattern, string content, bool literal)
    {
        Pattern = literal ? Regex.Escape(pattern) : pattern;
        Content = content;
        _pattern = new Regex(Pattern, RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
        _content = [.. content.EnumerateRunes().Select(rune => rune.Value)];
    }

    /// <summary>The regular expression.</summary>
    public string Pattern { get; }

    /// <summary>What replaces a match.</summary>
    public string Content { get; }

    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        string units = text.ToString();
        List<(int, int)> ranges = [];
        int unit = 0, codePoint = 0;
        foreach (ValueMatch match in _pattern.EnumerateMatches(units))
        {
            if (match.Length == 0) continue;
            int start = Advance(units, ref unit, match.Index, ref codePoint);
            ranges.Add((start, Advance(units, ref unit, match.Index + match.Length, ref codePoint)));
        }
        text.Replace(ranges, _content);
    }

    private static int Advance(string units, ref int unit, int target, ref int codePoint)
    {
        while (unit < target)
        {
            unit += Rune.TryGetRuneAt(units, unit, out Rune rune) ? rune.Utf16SequenceLength : 1;
            codePoint++;
        }
        return codePoint;
    }
}
