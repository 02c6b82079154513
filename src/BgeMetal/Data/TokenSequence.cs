namespace BgeMetal.Data;

/// <summary>One text, or one joined pair, as the model reads it: special tokens included, nothing padded.</summary>
/// <param name="Ids">Vocabulary ids, at least one.</param>
/// <param name="TypeIds">Token types of the same length, or null for all zero.</param>
internal readonly record struct TokenSequence(ReadOnlyMemory<int> Ids, ReadOnlyMemory<int>? TypeIds = null)
{
    /// <summary>Tokens.</summary>
    public int Length => Ids.Length;
}
