using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>
/// Joins query and passage for a cross-encoder and cuts them as FlagEmbedding does. With one limit for the pair (its earlier form): the longer text is cut first.
/// With limits for both (its current form): the query is cut to query + passage/4 tokens, the passage to passage + query/2, and then the pair to query + passage
/// with special tokens, by cutting the passage; only where the query alone is too long for that, the query. Thread-safe.
/// </summary>
internal sealed class PairJoiner(ModelTokenizer tokenizer, bool isXlmRoberta, bool hasTypes, int maxLength, int? queryLength, int? passageLength)
{
    private const int UsualQueryLength = 32, UsualPassageLength = 128;

    /// <summary>The joined tokens, special tokens included.</summary>
    public TokenSequence Join(string query, string passage)
    {
        if (queryLength is null && passageLength is null)
        {
            TokenizedText pair = tokenizer.Encode(query, passage, maxLength: maxLength);
            return new TokenSequence(pair.InputIds, hasTypes ? pair.TokenTypeIds : null);
        }
        int q = queryLength ?? UsualQueryLength, p = passageLength ?? UsualPassageLength;
        int[] first = Ids(query, q + p / 4), second = Ids(passage, p + q / 2);
        int special = isXlmRoberta ? 4 : 3, limit = Math.Min(q + p, maxLength);
        int firstLength = Math.Min(first.Length, limit - special), secondLength = Math.Min(second.Length, limit - special - firstLength);
        int[] separators = isXlmRoberta ? [tokenizer.SepId, tokenizer.SepId] : [tokenizer.SepId];
        int[] ids = [tokenizer.ClsId, .. first.AsSpan(0, firstLength), .. separators, .. second.AsSpan(0, secondLength), tokenizer.SepId];
        if (!hasTypes || isXlmRoberta) return new TokenSequence(ids);
        int[] types = new int[ids.Length];
        types.AsSpan(firstLength + 2).Fill(1);
        return new TokenSequence(ids, types);
    }

    private int[] Ids(string text, int length) => tokenizer.Encode(text, addSpecialTokens: false, maxLength: length).InputIds;
}
