namespace BgeMetal.Data.Training;

/// <summary>
/// The words of each text, for DupMAE's bag-of-words loss: the set of the tokens between the first and the last, of which each weighs one over their number with
/// repetitions, as in the authors' code.
/// </summary>
/// <param name="Words">The texts' words back to back, each text's ascending and distinct.</param>
/// <param name="Offsets">Text b's are Offsets[b] .. Offsets[b+1] of them [B+1].</param>
/// <param name="Weights">What a word of each text weighs [B].</param>
internal sealed record WordBag(int[] Words, int[] Offsets, float[] Weights)
{
    /// <summary>The words of unmasked texts.</summary>
    public static WordBag Of(IReadOnlyList<TokenSequence> texts)
    {
        List<int> words = [];
        int[] offsets = new int[texts.Count + 1];
        float[] weights = new float[texts.Count];
        for (int b = 0; b < texts.Count; b++)
        {
            int[] inner = texts[b].Length <= 2 ? [] : texts[b].Ids[1..^1].ToArray();
            words.AddRange(inner.Distinct().Order());
            offsets[b + 1] = words.Count;
            weights[b] = inner.Length == 0 ? 0 : 1f / inner.Length;
        }
        return new WordBag([.. words], offsets, weights);
    }
}
