namespace BgeMetal.Data;

/// <summary>Counts the rows a reader passed over. Handing one to a reader is what makes it pass over bad rows instead of stopping at the first.</summary>
public sealed class InvalidLines
{
    /// <summary>How many rows were bad so far.</summary>
    public long Count { get; private set; }

    /// <summary>The error of the first bad row, which names its file and line.</summary>
    public BgeMetalException? First { get; private set; }

    internal void Add(BgeMetalException error)
    {
        First ??= error;
        Count++;
    }
}
