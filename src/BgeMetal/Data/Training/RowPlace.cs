namespace BgeMetal.Data.Training;

/// <summary>Where a row stands, for messages: the file as the user named it and the 1-based line.</summary>
internal readonly record struct RowPlace(string File, long Line)
{
    /// <inheritdoc/>
    public override string ToString() => $"{File}:{Line}";
}
