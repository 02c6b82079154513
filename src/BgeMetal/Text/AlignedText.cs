using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// A piece of text under normalisation, as code points, each with the range of original code points it came from. It reproduces the alignment rules of
/// Hugging Face tokenizers' NormalizedString, so that token offsets agree; the ids-only path does not use it.
/// </summary>
internal sealed class AlignedText
{
    private List<int> _codePoints;
    private List<(int Start, int End)> _origins;

    private AlignedText(List<int> codePoints, List<(int, int)> origins, int originalStart)
    {
        _codePoints = codePoints;
        _origins = origins;
        OriginalStart = originalStart;
    }

    /// <summary>The text as it stands. A lone surrogate becomes U+FFFD.</summary>
    public AlignedText(ReadOnlySpan<char> text) : this(new List<int>(text.Length), new List<(int, int)>(text.Length), 0)
    {
        foreach (Rune rune in text.EnumerateRunes())
        {
            _origins.Add((_codePoints.Count, _codePoints.Count + 1));
            _codePoints.Add(rune.Value);
        }
    }

    /// <summary>The code points, normalised so far.</summary>
    public IReadOnlyList<int> CodePoints => _codePoints;

    /// <summary>The number of code points.</summary>
    public int Length => _codePoints.Count;

    /// <summary>Where the piece of the original text begins.</summary>
    public int OriginalStart { get; }

    /// <summary>The original range that code points <paramref name="start"/>..<paramref name="end"/> (not empty) came from.</summary>
    public (int Start, int End) Origin(int start, int end) => (_origins[start].Start, _origins[end - 1].End);

    /// <summary>The code points <paramref name="start"/>..<paramref name="end"/> as a text of their own.</summary>
    public AlignedText Slice(int start, int end) => new(_codePoints.GetRange(start, end - start), _origins.GetRange(start, end - start),
        start < end ? _origins[start].Start : start);

    /// <summary>
    /// Replaces the text by code points that each say what they did: 0 replaces the next old one, 1 is new (and shares the origin of what stands
    /// before it), -n replaces the next and drops n more. <paramref name="dropped"/> old ones are dropped first.
    /// </summary>
    public void Transform(IReadOnlyList<(int CodePoint, int Change)> steps, int dropped)
    {
        List<int> codePoints = new(steps.Count);
        List<(int, int)> origins = new(steps.Count);
        int position = dropped;
        foreach ((int codePoint, int change) in steps)
        {
            codePoints.Add(codePoint);
            if (change > 0) origins.Add(position < 1 ? (0, 0) : _origins[position - 1]);
            else
            {
                origins.Add(_origins[position]);
                position += 1 - change;
            }
        }
        _codePoints = codePoints;
        _origins = origins;
    }

    /// <summary>Drops the code points that <paramref name="keep"/> refuses.</summary>
    public void Filter(Func<int, bool> keep)
    {
        int kept = 0;
        for (int i = 0; i < _codePoints.Count; i++)
        {
            if (!keep(_codePoints[i])) continue;
            _codePoints[kept] = _codePoints[i];
            _origins[kept++] = _origins[i];
        }
        _codePoints.RemoveRange(kept, _codePoints.Count - kept);
        _origins.RemoveRange(kept, _origins.Count - kept);
    }

    /// <summary>Replaces each code point by another.</summary>
    public void Map(Func<int, int> map)
    {
        for (int i = 0; i < _codePoints.Count; i++) _codePoints[i] = map(_codePoints[i]);
    }

    /// <summary>Replaces ranges (ascending, disjoint, not empty) by <paramref name="content"/>, which takes the origin of the range's last code point.</summary>
    public void Replace(IReadOnlyList<(int Start, int End)> ranges, ReadOnlySpan<int> content)
    {
        List<int> codePoints = new(_codePoints.Count);
        List<(int, int)> origins = new(_codePoints.Count);
        int copied = 0;
        foreach ((int start, int end) in ranges)
        {
            codePoints.AddRange(_codePoints.GetRange(copied, start - copied));
            origins.AddRange(_origins.GetRange(copied, start - copied));
            foreach (int codePoint in content)
            {
                codePoints.Add(codePoint);
                origins.Add(end < 1 ? (0, 0) : _origins[end - 1]);
            }
            copied = end;
        }
        codePoints.AddRange(_codePoints.GetRange(copied, _codePoints.Count - copied));
        origins.AddRange(_origins.GetRange(copied, _origins.Count - copied));
        _codePoints = codePoints;
        _origins = origins;
    }

    /// <summary>Puts a code point, with the origin of the first, before a text that is not empty.</summary>
    public void Prepend(int codePoint)
    {
        if (_codePoints.Count == 0) return;
        _codePoints.Insert(0, codePoint);
        _origins.Insert(0, _origins[0]);
    }

    /// <inheritdoc/>
    public override string ToString() => ToString(0, Length);

    /// <summary>The code points <paramref name="start"/>..<paramref name="end"/> as a string.</summary>
    public string ToString(int start, int end)
    {
        StringBuilder text = new(end - start);
        Span<char> units = stackalloc char[2];
        for (int i = start; i < end; i++) text.Append(units[..new Rune(_codePoints[i]).EncodeToUtf16(units)]);
        return text.ToString();
    }
}
