using System.Runtime.InteropServices;

namespace BgeMetal.Text;

/// <summary>
/// Learns a WordPiece vocabulary from texts: the special tokens, the frequent characters, and pieces made by joining, again and again, the most frequent
/// pair of neighbours within words (Sennrich et al. 2016, byte-pair encoding, as Hugging Face's WordPiece trainer does). The result depends on the multiset of
/// texts alone: ties go to the pair whose pieces came first. Not thread-safe.
/// </summary>
public sealed class WordPieceTrainer
{
    private const int MaxWordLength = 100;
    private readonly WordPieceTrainerOptions _options;
    private readonly BertTextNormalizer _normalizer;
    private readonly BertWordScanner _scanner;
    private readonly Dictionary<string, long> _words = new(StringComparer.Ordinal);
    private char[] _buffer = [];

    /// <summary>A trainer that has seen nothing yet.</summary>
    /// <exception cref="BgeMetalException">The vocabulary size has no room for the special tokens, or the least frequency is below 1.</exception>
    public WordPieceTrainer(WordPieceTrainerOptions? options = null)
    {
        _options = options ?? new WordPieceTrainerOptions();
        if (_options.VocabularySize <= SpecialTokens.Count)
            throw new BgeMetalException("vocabulary size", $"{_options.VocabularySize} leaves no room beside the {SpecialTokens.Count} special tokens");
        if (_options.MinFrequency < 1) throw new BgeMetalException("least frequency", $"{_options.MinFrequency} was given, at least 1 was expected");
        _normalizer = new BertTextNormalizer(new BertOptions(true, _options.HandleChineseChars, _options.StripAccents, _options.Lowercase));
        _scanner = new BertWordScanner(_normalizer);
    }

    /// <summary>The special tokens, ids 0 to 4: [PAD], [UNK], [CLS], [SEP], [MASK].</summary>
    public static IReadOnlyList<string> SpecialTokens { get; } = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

    /// <summary>The number of different words seen so far.</summary>
    public int WordCount => _words.Count;

    /// <summary>Counts the words of a text.</summary>
    public void Add(ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty)
        {
            ReadOnlySpan<char> chunk = text[..SegmentEncoder.ChunkLength(text)];
            text = text[chunk.Length..];
            int needed = BertWordScanner.MaxExpansion * chunk.Length;
            if (_buffer.Length < needed) _buffer = new char[needed];
            int length = _scanner.Normalize(WellFormedText.Of(chunk), _buffer);
            if (length >= 0) Count(_buffer.AsSpan(0, length));
            else Count(_normalizer.Normalize(chunk));
        }
    }

    /// <summary>Counts the words of texts.</summary>
    public void AddRange(IEnumerable<string> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        foreach (string text in texts) Add(text);
    }

    /// <summary>The vocabulary in the order of ids: special tokens, characters, continuing characters, then pieces as they were joined.</summary>
    public IReadOnlyList<string> Train() => new PairMerger(_words, SpecialTokens, _options.VocabularySize, _options.MinFrequency).Run();

    /// <summary>
    /// Writes vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json, which this library and Hugging Face transformers load.
    /// </summary>
    /// <param name="directory">The model's directory; made if missing.</param>
    /// <param name="vocabulary">The tokens in the order of ids, the special tokens among them.</param>
    /// <exception cref="BgeMetalException">A file cannot be written, or the vocabulary lacks a special token or has one twice.</exception>
    public void Save(string directory, IReadOnlyList<string> vocabulary)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(vocabulary);
        WordPieceFiles.Write(directory, vocabulary, _normalizer.Options, _options.ModelMaxLength);
    }

    private void Count(ReadOnlySpan<char> normalized)
    {
        Dictionary<string, long>.AlternateLookup<ReadOnlySpan<char>> words = _words.GetAlternateLookup<ReadOnlySpan<char>>();
        int position = 0;
        while (BertWordScanner.Next(normalized, ref position, out int start))
            if (position - start <= MaxWordLength)
                CollectionsMarshal.GetValueRefOrAddDefault(words, normalized[start..position], out _)++;
    }
}
