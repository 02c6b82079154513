namespace BgeMetal.Data.Training;

/// <summary>
/// Texts with the masks of RetroMAE. Rows are numbered through the packed batch. Bits of visible keys: text b starts at word VisibleStarts[b] and has
/// ceil(length / 64) words a row; bit j % 64 of word j / 64 of row i says whether position i of the decoder sees position j.
/// </summary>
internal sealed class RetroMaeBatch
{
    /// <summary>What the encoder reads [B].</summary>
    public required IReadOnlyList<TokenSequence> Masked { get; init; }

    /// <summary>What the decoder reads [B].</summary>
    public required IReadOnlyList<TokenSequence> Original { get; init; }

    /// <summary>Rows with a label of the encoder, ascending.</summary>
    public required int[] EncoderRows { get; init; }

    /// <summary>Their original tokens.</summary>
    public required int[] EncoderLabels { get; init; }

    /// <summary>Rows with a label of the decoder, ascending: all but each text's first and last.</summary>
    public required int[] DecoderRows { get; init; }

    /// <summary>Their original tokens.</summary>
    public required int[] DecoderLabels { get; init; }

    /// <summary>Which keys each decoder row sees.</summary>
    public required ulong[] Visible { get; init; }

    /// <summary>Each text's first word in <see cref="Visible"/> [B].</summary>
    public required int[] VisibleStarts { get; init; }

    /// <summary>Where the rows stand [B].</summary>
    public required IReadOnlyList<RowPlace> Places { get; init; }

    /// <summary>Tokens of all texts.</summary>
    public required int Tokens { get; init; }
}
