using System.Collections.Immutable;
using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>
/// How the tokens of a vocabulary make words, for masking whole words. WordPiece: a piece that begins with <c>##</c> goes on with the word before it.
/// SentencePiece: a piece that begins with U+2581 starts a word and others go on; punctuation, and pieces in scripts that put no space between words, stand alone,
/// because a whole sentence would be one word otherwise.
/// </summary>
internal sealed class WordPieces
{
    private const char WordMark = '\u2581';
    private readonly Role[] _roles;

    private WordPieces(Role[] roles, int maskId, int vocabularySize)
    {
        _roles = roles;
        MaskId = maskId;
        VocabularySize = vocabularySize;
    }

    private enum Role : byte
    {
        Start,
        Continue,
        Alone,

        /// <summary>[UNK], [PAD], [MASK]: may be chosen, and uses up its share, but is no label of the encoder.</summary>
        Unlabelled,

        /// <summary>[CLS], [SEP]: never chosen.</summary>
        Never,
    }

    /// <summary>The token that hides another.</summary>
    public int MaskId { get; }

    /// <summary>The ids that a random replacement is drawn from are below this.</summary>
    public int VocabularySize { get; }

    /// <summary>Reads the whole vocabulary once.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="modelVocabulary">Rows of the model's word table: ids from there on are not drawn.</param>
    /// <exception cref="BgeMetalException">The vocabulary has no mask token.</exception>
    public static WordPieces Of(ModelTokenizer tokenizer, int modelVocabulary)
    {
        int size = Math.Min(tokenizer.VocabularySize, modelVocabulary);
        if (tokenizer.MaskId < 0 || tokenizer.MaskId >= size)
            throw new BgeMetalException("the vocabulary does not fit", "masked-language training needs a [MASK] (or <mask>) token that the model knows");
        string?[] tokens = new string?[size];
        for (int id = 0; id < size; id++) tokens[id] = tokenizer.IdToToken(id);
        return new WordPieces(Roles(tokens, tokenizer), tokenizer.MaskId, size);
    }

    /// <summary>The words of a text that may be chosen, as (start, length) in <paramref name="ids"/>.</summary>
    public void Split(ReadOnlySpan<int> ids, List<(int Start, int Length)> words)
    {
        words.Clear();
        bool open = false;
        for (int i = 0; i < ids.Length; i++)
        {
            Role role = RoleOf(ids[i]);
            if (role == Role.Never)
            {
                open = false;
                continue;
            }
            if (role == Role.Continue && open) words[^1] = words[^1] with { Length = words[^1].Length + 1 };
            else words.Add((i, 1));
            open = role != Role.Alone;
        }
    }

    /// <summary>Whether a chosen token becomes a label of the encoder.</summary>
    public bool IsLabel(int id) => RoleOf(id) is not (Role.Unlabelled or Role.Never);

    private Role RoleOf(int id) => (uint)id < (uint)_roles.Length ? _roles[id] : Role.Start;

    private static Role[] Roles(string?[] tokens, ModelTokenizer tokenizer)
    {
        bool sentencePiece = tokens.Count(token => token is [WordMark, ..]) > tokens.Count(token => token is ['#', '#', _, ..]);
        Role[] roles = [.. tokens.Select(token => token is null ? Role.Start : sentencePiece ? SentencePieceRole(token)
            : token.StartsWith("##", StringComparison.Ordinal) ? Role.Continue : Role.Start)];
        foreach (int id in (ImmutableArray<int>)[tokenizer.UnkId, tokenizer.PadId, tokenizer.MaskId]) Set(id, Role.Unlabelled);
        foreach (int id in (ImmutableArray<int>)[tokenizer.ClsId, tokenizer.SepId]) Set(id, Role.Never);
        return roles;

        void Set(int id, Role role)
        {
            if ((uint)id < (uint)roles.Length) roles[id] = role;
        }
    }

    private static Role SentencePieceRole(string token)
    {
        string text = token.TrimStart(WordMark);
        if (text.Length > 0 && (text.Any(IsUnspaced) || text.All(c => char.IsPunctuation(c) || char.IsSymbol(c)))) return Role.Alone;
        return token[0] == WordMark ? Role.Start : Role.Continue;
    }

    // Thai, Lao, Tibetan; Myanmar; Khmer; CJK radicals to ideographs, kana included; compatibility ideographs; halfwidth kana; beyond the first plane.
    private static bool IsUnspaced(char c) => c is (>= '\u0E00' and <= '\u0FFF') or (>= '\u1000' and <= '\u109F') or (>= '\u1780' and <= '\u17FF')
        or (>= '\u2E80' and <= '\u9FFF') or (>= '\uF900' and <= '\uFAFF') or (>= '\uFF66' and <= '\uFF9D') || char.IsSurrogate(c);
}
