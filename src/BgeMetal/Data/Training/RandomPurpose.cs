namespace BgeMetal.Data.Training;

/// <summary>The second word of every random key in the data room, after the run's seed: different decisions never share a sequence. The values are part of what a resumed run relies on.</summary>
internal static class RandomPurpose
{
    /// <summary>Which rows of a capped file take part; then the file's number.</summary>
    public const long RowsOfFile = 1;

    /// <summary>The order of rows in a group; then epoch and group.</summary>
    public const long RowOrder = 2;

    /// <summary>The order of an epoch's batches; then epoch.</summary>
    public const long BatchOrder = 3;

    /// <summary>A row's positive and negatives; then epoch and row.</summary>
    public const long Passages = 4;

    /// <summary>Which candidates become a row's hard negatives; then the row.</summary>
    public const long HardNegatives = 5;

    /// <summary>Which corpus texts fill a row up; then the row.</summary>
    public const long FillingNegatives = 6;

    /// <summary>Which group and which of its rows a freely drawn batch holds; then epoch and batch.</summary>
    public const long BatchDraw = 7;

    /// <summary>A text's masks in pre-training; then epoch and row.</summary>
    public const long Masks = 8;
}
