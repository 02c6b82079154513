namespace BgeMetal.Data.Training;

/// <summary>Groups of joined pairs, tokenised: each query with one positive and G-1 negatives.</summary>
internal sealed class RerankingBatch
{
    /// <summary>Pairs [B*G]: row b*G is query b with its positive, the next G-1 with its negatives.</summary>
    public required IReadOnlyList<TokenSequence> Pairs { get; init; }

    /// <summary>G.</summary>
    public required int GroupSize { get; init; }

    /// <summary>A teacher's scores [B*G], or null.</summary>
    public float[]? TeacherScores { get; init; }

    /// <summary>Where the rows stand [B].</summary>
    public required IReadOnlyList<RowPlace> Places { get; init; }
}
