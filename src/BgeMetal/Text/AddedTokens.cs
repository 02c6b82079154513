using System.Buffers;

namespace BgeMetal.Text;

/// <summary>A token that is matched literally in the text before the model sees it.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Content">What is matched.</param>
/// <param name="SingleWord">Only between characters that are no word characters.</param>
/// <param name="LeftStrip">White space before it belongs to it.</param>
/// <param name="RightStrip">White space after it belongs to it.</param>
/// <param name="Normalized">Matched in the normalised text, in its own normalised form, instead of the raw text.</param>
/// <param name="Special">Dropped when ids are turned back into text.</param>
internal sealed record AddedToken(int Id, string Content, bool SingleWord = false, bool LeftStrip = false, bool RightStrip = false, bool Normalized = false,
    bool Special = true);

/// <summary>Finds literal tokens in a text: leftmost first, the longest of those that start at one place.</summary>
internal sealed class AddedTokenMatcher
{
    private readonly CharacterTrie _trie = new();
    private readonly int _root;
    private readonly AddedToken[] _tokens;
    private readonly SearchValues<char> _first;

    /// <summary>A matcher of tokens by the text they are matched as; empty texts never match.</summary>
    public AddedTokenMatcher(IEnumerable<(string Text, AddedToken Token)> patterns)
    {
        (string Text, AddedToken Token)[] all = [.. patterns.Where(pattern => pattern.Text.Length > 0)];
        _tokens = Array.ConvertAll(all, pattern => pattern.Token);
        _root = _trie.AddRoot();
        for (int i = 0; i < all.Length; i++) _trie.TryAdd(_root, all[i].Text, i);
        _first = SearchValues.Create([.. all.Select(pattern => pattern.Text[0])]);
    }

    /// <summary>Whether there is nothing to find.</summary>
    public bool IsEmpty => _tokens.Length == 0;

    /// <summary>
    /// Finds the next token at or after <paramref name="cursor"/> and moves the cursor behind it. <paramref name="from"/> is where the text not yet
    /// given out begins; white space before it is not taken again.
    /// </summary>
    /// <returns>The token with its range, white space included; null at the end.</returns>
    public AddedToken? Next(ReadOnlySpan<char> text, ref int cursor, int from, out int start, out int end)
    {
        (start, end) = (text.Length, text.Length);
        while (cursor < text.Length)
        {
            int skip = text[cursor..].IndexOfAny(_first);
            if (skip < 0) break;
            cursor += skip;
            int found = _trie.Longest(_root, text[cursor..], out int length);
            if (found < 0)
            {
                cursor++;
                continue;
            }
            AddedToken token = _tokens[found];
            (start, end) = (cursor, cursor + length);
            cursor = end;
            if (token.SingleWord && (EndsWithWord(text[..start]) || StartsWithWord(text[end..]))) continue;
            if (token.LeftStrip) start = Math.Max(from, text[..start].TrimEnd().Length);
            if (token.RightStrip) end = text.Length - text[end..].TrimStart().Length;
            return token;
        }
        (start, end) = (text.Length, text.Length);
        cursor = text.Length;
        return null;
    }

    private static bool EndsWithWord(ReadOnlySpan<char> text) =>
        System.Text.Rune.DecodeLastFromUtf16(text, out System.Text.Rune rune, out _) == OperationStatus.Done && UnicodeTables.IsWord(rune.Value);

    private static bool StartsWithWord(ReadOnlySpan<char> text) =>
        System.Text.Rune.DecodeFromUtf16(text, out System.Text.Rune rune, out _) == OperationStatus.Done && UnicodeTables.IsWord(rune.Value);
}
