namespace BgeMetal.Text;

/// <summary>How a WordPiece vocabulary is learnt.</summary>
public sealed record WordPieceTrainerOptions
{
    /// <summary>The largest number of entries, special tokens included.</summary>
    public int VocabularySize { get; init; } = 30522;

    /// <summary>A character or pair of pieces seen less often gets no entry.</summary>
    public int MinFrequency { get; init; } = 2;

    /// <summary>Whether text is lower-cased.</summary>
    public bool Lowercase { get; init; } = true;

    /// <summary>Whether accents are stripped; null: as <see cref="Lowercase"/> says.</summary>
    public bool? StripAccents { get; init; }

    /// <summary>Whether ideographs are words of their own.</summary>
    public bool HandleChineseChars { get; init; } = true;

    /// <summary>The model's longest input in tokens, written to tokenizer_config.json.</summary>
    public int ModelMaxLength { get; init; } = 512;
}
