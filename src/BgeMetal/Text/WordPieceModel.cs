using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// WordPiece (Schuster and Nakajima 2012; BERT's greedy longest match from the left): a word is cut into the longest known beginning, then the longest
/// known continuations; a word that cannot be spelled, or is longer than the limit in code points, becomes one unknown token.
/// </summary>
internal sealed class WordPieceModel : TokenModel
{
    private readonly CharacterTrie _trie;
    private readonly int _beginning, _continuation;
    private readonly int _maxCharacters;
    private readonly string _prefix, _unk;

    /// <param name="tokens">The token of each id.</param>
    /// <param name="unkId">The id of the unknown token.</param>
    /// <param name="prefix">What marks a continuation in the vocabulary, as a rule "##".</param>
    /// <param name="maxCharacters">The longest word, in code points, that is looked at.</param>
    /// <exception cref="InvalidOperationException">A token is there twice, or there are too many.</exception>
    public WordPieceModel(string?[] tokens, int unkId, string prefix, int maxCharacters) : base(tokens, unkId)
    {
        (_prefix, _maxCharacters, _unk) = (prefix, maxCharacters, tokens[unkId]!);
        _trie = new CharacterTrie(3 * tokens.Length);
        _beginning = _trie.AddRoot();
        _continuation = _trie.AddRoot();
        for (int id = 0; id < tokens.Length; id++)
        {
            if (tokens[id] is not { Length: > 0 } token) continue;
            if (!_trie.TryAdd(_beginning, token, id)) throw Twice(token, id);
            if (token.Length > prefix.Length && token.StartsWith(prefix, StringComparison.Ordinal)) _trie.TryAdd(_continuation, token.AsSpan(prefix.Length), id);
        }
    }

    /// <inheritdoc/>
    public override int Find(ReadOnlySpan<char> token) => _trie.Find(_beginning, token);

    /// <inheritdoc/>
    public override void Encode(ReadOnlySpan<char> piece, ref TokenBuffer ids, List<int>? ends)
    {
        int before = ids.Count, endsBefore = ends?.Count ?? 0, root = _beginning;
        if (piece.Length <= _maxCharacters || CountCodePoints(piece) <= _maxCharacters)
        {
            int position = 0;
            while (position < piece.Length)
            {
                int id = _trie.Longest(root, piece[position..], out int length);
                if (id < 0) break;
                ids.Add(id);
                position += length;
                ends?.Add(position);
                root = _continuation;
            }
            if (position == piece.Length) return;
        }
        ids.Truncate(before);
        ids.Add(UnkId);
        ends?.RemoveRange(endsBefore, ends.Count - endsBefore);
        ends?.Add(piece.Length);
    }

    /// <inheritdoc/>
    public override string Display(int id, string piece) => Token(id)!;

    /// <inheritdoc/>
    public override string Join(IReadOnlyList<string> tokens)
    {
        StringBuilder text = new();
        foreach (string token in tokens)
        {
            if (text.Length > 0 && token.StartsWith(_prefix, StringComparison.Ordinal) && token != _unk) text.Append(token, _prefix.Length, token.Length - _prefix.Length);
            else text.Append(text.Length > 0 ? " " : "").Append(token);
        }
        return text.ToString();
    }

    private static int CountCodePoints(ReadOnlySpan<char> text)
    {
        int count = 0;
        foreach (char unit in text)
            if (!char.IsLowSurrogate(unit)) count++;
        return count;
    }
}
