namespace BgeMetal.Data;

/// <summary>
/// How a model numbers positions. BERT: 0, 1, 2, ... XLM-RoBERTa: the padding id plus the 1-based rank among the tokens that are not the padding
/// id, and the padding id itself for padding tokens.
/// </summary>
/// <param name="PaddingId">The padding id that positions are counted from, or -1 for BERT's rule.</param>
internal readonly record struct PositionRule(int PaddingId)
{
    /// <summary>Positions 0, 1, 2, ...</summary>
    public static PositionRule Bert => new(-1);

    /// <summary>The most tokens a sequence may have when the position table has <paramref name="maxPositions"/> rows.</summary>
    public int MaxLength(int maxPositions) => maxPositions - 1 - PaddingId;

    /// <summary>Writes the positions of <paramref name="ids"/>.</summary>
    public void Write(ReadOnlySpan<int> ids, Span<int> positions)
    {
        int next = PaddingId;
        for (int i = 0; i < ids.Length; i++)
            positions[i] = ids[i] == PaddingId ? PaddingId : ++next;
    }
}
