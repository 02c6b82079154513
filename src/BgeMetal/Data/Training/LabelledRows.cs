namespace BgeMetal.Data.Training;

/// <summary>
/// The rows of a packed batch that are read after the last layer: each text's first one, and those that carry a label. Nobody looks at the others, so the
/// layer need not compute them.
/// </summary>
/// <param name="Rows">Those rows, ascending [R].</param>
/// <param name="Offsets">Text b's are Offsets[b] .. Offsets[b+1] of them; its first one comes first [B+1].</param>
/// <param name="Labelled">Where the labelled ones stand in <paramref name="Rows"/>, in the order they were given in.</param>
internal sealed record LabelledRows(int[] Rows, int[] Offsets, int[] Labelled)
{
    /// <summary>First rows and labelled rows, ascending, of texts that stand back to back.</summary>
    public static LabelledRows Of(IReadOnlyList<TokenSequence> texts, ReadOnlySpan<int> labelled)
    {
        List<int> rows = new(texts.Count + labelled.Length);
        int[] offsets = new int[texts.Count + 1], places = new int[labelled.Length];
        int start = 0, next = 0;
        for (int b = 0; b < texts.Count; b++)
        {
            int end = start + texts[b].Length;
            rows.Add(start);
            for (; next < labelled.Length && labelled[next] < end; next++)
            {
                if (labelled[next] != start) rows.Add(labelled[next]);
                places[next] = rows.Count - 1;
            }
            offsets[b + 1] = rows.Count;
            start = end;
        }
        return new LabelledRows([.. rows], offsets, places);
    }
}
