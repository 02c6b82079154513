namespace BgeMetal.Testing.Reference;

/// <summary>word[ids] + position[positions] + type[types] in double precision; tables are [entries, hidden].</summary>
public static class EmbeddingReference
{
    public static double[] Forward(int[] tokenIds, int[] positionIds, int[] tokenTypeIds, double[] word, double[] position, double[] type, int hidden)
    {
        double[] y = new double[tokenIds.Length * hidden];
        for (int t = 0; t < tokenIds.Length; t++)
            for (int i = 0; i < hidden; i++)
                y[(t * hidden) + i] = word[(tokenIds[t] * hidden) + i] + position[(positionIds[t] * hidden) + i] + type[(tokenTypeIds[t] * hidden) + i];
        return y;
    }

    /// <summary>Each table's gradient: the rows of dy added up at the entries they came from, except the padding entry. Call once for each table.</summary>
    public static double[] Backward(double[] dy, int[] ids, int entries, int hidden, int padding = -1)
    {
        double[] dtable = new double[entries * hidden];
        for (int t = 0; t < ids.Length; t++)
            for (int i = 0; i < hidden && ids[t] != padding; i++)
                dtable[(ids[t] * hidden) + i] += dy[(t * hidden) + i];
        return dtable;
    }
}
