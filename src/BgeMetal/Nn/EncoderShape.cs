namespace BgeMetal.Nn;

/// <summary>The sizes that define a BERT-type encoder.</summary>
/// <param name="VocabSize">V: rows of the word table.</param>
/// <param name="HiddenSize">D: width of a token's vector.</param>
/// <param name="NumLayers">Transformer layers.</param>
/// <param name="NumHeads">H: attention heads; Dh = D / H.</param>
/// <param name="IntermediateSize">Width of the feed-forward block.</param>
/// <param name="MaxPositions">Rows of the position table.</param>
/// <param name="TypeVocabSize">Rows of the token type table.</param>
/// <param name="PadTokenId">The padding id, whose rows take no gradient from look-ups.</param>
/// <param name="PaddingPosition">The row of the position table that takes no gradient; -1 for none (BERT).</param>
/// <param name="LayerNormEpsilon">Added to the variance.</param>
/// <param name="HiddenDropout">Probability of dropping an element after a linear layer, in training.</param>
/// <param name="AttentionDropout">Probability of dropping an attention weight, in training.</param>
internal sealed record EncoderShape(
    int VocabSize, int HiddenSize, int NumLayers, int NumHeads, int IntermediateSize, int MaxPositions, int TypeVocabSize,
    int PadTokenId, int PaddingPosition, float LayerNormEpsilon, float HiddenDropout = 0, float AttentionDropout = 0);
