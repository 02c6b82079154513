using Microsoft.ML.Tokenizers;

namespace BgeMetal.Text;

/// <summary>A <see cref="Normalizer"/> that also keeps track of where each character came from.</summary>
internal abstract class TextNormalizer : Normalizer
{
    /// <summary>Normalises in place.</summary>
    public abstract void Apply(AlignedText text);

    /// <inheritdoc/>
    public override string Normalize(string original) => Normalize(original.AsSpan());

    /// <inheritdoc/>
    public override string Normalize(ReadOnlySpan<char> original)
    {
        AlignedText text = new(original);
        Apply(text);
        return text.ToString();
    }
}

/// <summary>Several normalizers, one after the other.</summary>
internal sealed class SequenceNormalizer(IReadOnlyList<TextNormalizer> parts) : TextNormalizer
{
    /// <summary>The parts in order.</summary>
    public IReadOnlyList<TextNormalizer> Parts { get; } = parts;

    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        foreach (TextNormalizer part in Parts) part.Apply(text);
    }
}

/// <summary>Removes white space at the ends.</summary>
internal sealed class StripNormalizer(bool left, bool right) : TextNormalizer
{
    /// <summary>Whether the beginning is stripped.</summary>
    public bool Left { get; } = left;

    /// <summary>Whether the end is stripped.</summary>
    public bool Right { get; } = right;

    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        int start = 0, end = text.Length;
        while (Left && start < end && UnicodeTables.IsWhiteSpace(text.CodePoints[start])) start++;
        while (Right && end > start && UnicodeTables.IsWhiteSpace(text.CodePoints[end - 1])) end--;
        int position = 0;
        text.Filter(_ => position++ >= start && position <= end);
    }
}

/// <summary>Lower-cases each character.</summary>
internal sealed class LowercaseNormalizer : TextNormalizer
{
    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        List<(int, int)> steps = new(text.Length);
        List<int> lower = [];
        foreach (int codePoint in text.CodePoints)
        {
            lower.Clear();
            UnicodeTables.Lower(codePoint, lower);
            for (int i = 0; i < lower.Count; i++) steps.Add((lower[i], i == 0 ? 0 : 1));
        }
        text.Transform(steps, 0);
    }
}

/// <summary>Canonical decomposition (Unicode normalization form D).</summary>
internal sealed class DecompositionNormalizer : TextNormalizer
{
    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        List<(int CodePoint, int Change)> steps = new(text.Length);
        List<int> parts = [];
        int pending = 0;
        foreach (int codePoint in text.CodePoints)
        {
            parts.Clear();
            UnicodeTables.Decompose(codePoint, parts);
            for (int i = 0; i < parts.Count; i++)
            {
                if (UnicodeTables.CombiningClass(parts[i]) == 0)
                {
                    Order(steps, pending);
                    pending = steps.Count + 1;
                }
                steps.Add((parts[i], i == 0 ? 0 : 1));
            }
        }
        Order(steps, pending);
        text.Transform(steps, 0);
    }

    /// <summary>Sorts a run of combining marks by class, keeping the order within a class.</summary>
    private static void Order(List<(int CodePoint, int Change)> steps, int from)
    {
        if (steps.Count - from < 2) return;
        (int, int)[] run = [.. steps.Skip(from).OrderBy(step => UnicodeTables.CombiningClass(step.CodePoint))];
        for (int i = 0; i < run.Length; i++) steps[from + i] = run[i];
    }
}
