namespace BgeMetal.Data.Training;

/// <summary>
/// Queries with their groups of passages, tokenised: ready for <see cref="PackedBatch"/>. All sequences of a batch share one array.
/// </summary>
internal sealed class ContrastiveBatch
{
    /// <summary>The epoch, from 0.</summary>
    public required int Epoch { get; init; }

    /// <summary>The number of the batch in its epoch, from 0.</summary>
    public required int Index { get; init; }

    /// <summary>Queries [B].</summary>
    public required IReadOnlyList<TokenSequence> Queries { get; init; }

    /// <summary>Passages [B*G]: row b*G is query b's positive, the next G-1 are its negatives.</summary>
    public required IReadOnlyList<TokenSequence> Passages { get; init; }

    /// <summary>G.</summary>
    public required int GroupSize { get; init; }

    /// <summary>A teacher's scores of the passages [B*G], or null.</summary>
    public float[]? TeacherScores { get; init; }

    /// <summary>Whether the file's name turns in-batch negatives off.</summary>
    public required bool NoInBatchNegatives { get; init; }

    /// <summary>The numbers of the rows in the data set [B].</summary>
    public required ReadOnlyMemory<int> Rows { get; init; }

    /// <summary>Where the rows stand [B].</summary>
    public required IReadOnlyList<RowPlace> Places { get; init; }

    /// <summary>The task that all rows belong to; null where they have none, or several.</summary>
    public string? Task { get; init; }

    /// <summary>Tokens of all queries and passages.</summary>
    public required int Tokens { get; init; }
}
