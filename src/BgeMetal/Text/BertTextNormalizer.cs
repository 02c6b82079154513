namespace BgeMetal.Text;

/// <summary>
/// BERT's basic cleaning: control characters go, white space becomes a blank, ideographs get blanks around them, accents are stripped after canonical
/// decomposition, letters are lower-cased; in this order.
/// </summary>
/// <param name="CleanText">Drop U+0000, U+FFFD and control characters, and make every white space a blank.</param>
/// <param name="HandleChineseChars">Put blanks around ideographs.</param>
/// <param name="StripAccents">Decompose and drop non-spacing marks; null: as <paramref name="Lowercase"/> says.</param>
/// <param name="Lowercase">Lower-case.</param>
internal sealed record BertOptions(bool CleanText = true, bool HandleChineseChars = true, bool? StripAccents = null, bool Lowercase = true)
{
    /// <summary>Whether accents are stripped in the end.</summary>
    public bool Strips => StripAccents ?? Lowercase;
}

/// <summary>The BertNormalizer of Hugging Face tokenizers.</summary>
internal sealed class BertTextNormalizer(BertOptions options) : TextNormalizer
{
    private static readonly DecompositionNormalizer s_decomposition = new();
    private static readonly LowercaseNormalizer s_lowercase = new();

    /// <summary>What is done.</summary>
    public BertOptions Options { get; } = options;

    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        if (Options.CleanText)
        {
            text.Filter(c => !IsDropped(c));
            text.Map(c => UnicodeTables.IsWhiteSpace(c) ? ' ' : c);
        }
        if (Options.HandleChineseChars) Isolate(text);
        if (Options.Strips)
        {
            s_decomposition.Apply(text);
            text.Filter(c => !UnicodeTables.IsNonSpacingMark(c));
        }
        if (Options.Lowercase) s_lowercase.Apply(text);
    }

    /// <summary>Whether cleaning drops the character.</summary>
    public static bool IsDropped(int codePoint) => codePoint is 0 or 0xFFFD || UnicodeTables.IsControl(codePoint);

    private static void Isolate(AlignedText text)
    {
        List<(int, int)> steps = new(text.Length);
        foreach (int codePoint in text.CodePoints)
        {
            if (UnicodeTables.IsChinese(codePoint)) steps.AddRange([(' ', 0), (codePoint, 1), (' ', 1)]);
            else steps.Add((codePoint, 0));
        }
        text.Transform(steps, 0);
    }
}
