namespace BgeMetal.Tensors;

/// <summary>
/// Where the numbers of a packed batch lie in one run of 32-bit integers, so that a batch goes to a device in one copy: ids, positions and types of so many tokens, then
/// the starts of so many sequences, then 0, 1, 2, ... A batch with fewer tokens or sequences than the layout is padded with rows that belong to no sequence and with
/// sequences that have no rows.
/// </summary>
/// <param name="Tokens">Rows of the activations.</param>
/// <param name="Sequences">Sequences.</param>
internal readonly record struct PackedLayout(int Tokens, int Sequences)
{
    private const int Alignment = 16;

    /// <summary>Where the positions begin.</summary>
    public int PositionIdsAt => Aligned(Tokens);

    /// <summary>Where the types begin.</summary>
    public int TokenTypeIdsAt => 2 * Aligned(Tokens);

    /// <summary>Where the sequences' starts begin.</summary>
    public int CuSeqlensAt => 3 * Aligned(Tokens);

    /// <summary>Where 0, 1, 2, ... begins.</summary>
    public int ClsOffsetsAt => CuSeqlensAt + Aligned(Sequences + 1);

    /// <summary>Integers of all together.</summary>
    public int Count => ClsOffsetsAt + Aligned(Sequences + 1);

    /// <summary>A batch whose numbers lie in <paramref name="numbers"/>, whose longest sequence has at most so many tokens.</summary>
    public PackedTensors View(Tensor numbers, int maxSeqlen) => new(numbers.ColumnRange(0, Tokens), numbers.ColumnRange(PositionIdsAt, Tokens),
        numbers.ColumnRange(TokenTypeIdsAt, Tokens), numbers.ColumnRange(CuSeqlensAt, Sequences + 1), numbers.ColumnRange(ClsOffsetsAt, Sequences + 1), maxSeqlen);

    private static int Aligned(int count) => (count + Alignment - 1) / Alignment * Alignment;
}
