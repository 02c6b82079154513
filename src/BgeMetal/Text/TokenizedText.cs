namespace BgeMetal.Text;

/// <summary>A text, or a pair of texts, as a model reads it.</summary>
/// <param name="InputIds">Token ids, special tokens included if asked for.</param>
/// <param name="TokenTypeIds">For each token the text it belongs to as the model counts it: BERT 0 and 1, XLM-RoBERTa always 0.</param>
/// <param name="SpecialTokensMask">1 where the tokenizer added a special token, else 0. A special token's name written in the text has 0.</param>
public sealed record TokenizedText(int[] InputIds, int[] TokenTypeIds, int[] SpecialTokensMask)
{
    /// <summary>The tokens as strings; null unless offsets were asked for. A token matched literally in the text is shown as it stood there.</summary>
    public string[]? Tokens { get; init; }

    /// <summary>
    /// Start and end of each token in its own text, in Unicode code points (a lone surrogate counts as one); (0, 0) for added special tokens.
    /// Null unless offsets were asked for.
    /// </summary>
    public (int Start, int End)[]? Offsets { get; init; }
}
