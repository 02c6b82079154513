using Microsoft.ML.Tokenizers;

namespace BgeMetal.Text;

/// <summary>
/// The tokenizer of a checkpoint: BERT WordPiece or XLM-RoBERTa Unigram, with the ids, token types, truncation and literal tokens of Hugging Face
/// tokenizers. Thread-safe. The members inherited from <see cref="Tokenizer"/> work on a text alone, without special tokens.
/// </summary>
public abstract class ModelTokenizer : Tokenizer
{
    private protected ModelTokenizer() { }

    /// <summary>One more than the largest token id.</summary>
    public abstract int VocabularySize { get; }

    /// <summary>The padding token, or -1 if the vocabulary has none.</summary>
    public abstract int PadId { get; }

    /// <summary>The token put first: [CLS] or &lt;s&gt;; -1 if the tokenizer adds none.</summary>
    public abstract int ClsId { get; }

    /// <summary>The token put after each text: [SEP] or &lt;/s&gt;; -1 if the tokenizer adds none.</summary>
    public abstract int SepId { get; }

    /// <summary>The token of what the vocabulary cannot spell.</summary>
    public abstract int UnkId { get; }

    /// <summary>The token that hides another in masked-language training, or -1 if the vocabulary has none.</summary>
    public abstract int MaskId { get; }

    /// <summary>The tokenizer's files in the directory it came from (absolute paths), to be copied when a model is saved.</summary>
    public abstract IReadOnlyList<string> Files { get; }

    /// <summary>
    /// Loads the tokenizer of a model directory: tokenizer.json if there is one, else vocab.txt (WordPiece) or sentencepiece.bpe.model (Unigram);
    /// tokenizer_config.json, special_tokens_map.json and added_tokens.json where they say more.
    /// </summary>
    /// <exception cref="BgeMetalException">There is no tokenizer, a file is damaged, or it asks for a part that is not supported.</exception>
    public static ModelTokenizer Load(string directory)
    {
        ArgumentNullException.ThrowIfNull(directory);
        return TokenizerLoader.Load(directory);
    }

    /// <summary>Tokenizes a text or a pair of texts.</summary>
    /// <param name="text">The text, or the first of a pair.</param>
    /// <param name="pair">The second text, or null.</param>
    /// <param name="addSpecialTokens">Whether the model's special tokens are put around the texts.</param>
    /// <param name="maxLength">The largest number of tokens, special tokens included; null: no limit.</param>
    /// <param name="truncation">Which text is cut if there are more.</param>
    /// <exception cref="BgeMetalException">The limit is too small for the special tokens, or the text to be cut is too short or missing.</exception>
    public abstract TokenizedText Encode(string text, string? pair = null, bool addSpecialTokens = true, int? maxLength = null,
        TruncationStrategy truncation = TruncationStrategy.LongestFirst);

    /// <summary>Like <see cref="Encode"/>, with token strings and offsets; several times slower.</summary>
    /// <inheritdoc cref="Encode"/>
    public abstract TokenizedText EncodeWithOffsets(string text, string? pair = null, bool addSpecialTokens = true, int? maxLength = null,
        TruncationStrategy truncation = TruncationStrategy.LongestFirst);

    /// <summary>Appends the ids of a text, special tokens included. Allocates nothing once the buffer and the thread's scratch have grown.</summary>
    /// <param name="text">The text.</param>
    /// <param name="maxLength">The largest number of tokens, special tokens included; 0 or less: no limit.</param>
    /// <param name="buffer">Where the ids are appended.</param>
    /// <exception cref="BgeMetalException">The limit is too small for the special tokens.</exception>
    public abstract void EncodeTo(ReadOnlySpan<char> text, int maxLength, ref TokenBuffer buffer);

    /// <summary>The id of a token, or -1.</summary>
    public abstract int TokenToId(string token);

    /// <summary>The token of an id, or null.</summary>
    public abstract string? IdToToken(int id);
}
