namespace BgeMetal.Testing.Reference;

/// <summary>Cross-entropies of score matrices in double precision, with their gradients with respect to the scores.</summary>
public static class CrossEntropyReference
{
    /// <summary>
    /// Mean over the rows with a target of logSumExp(row) - row[target]; scores [targets.Length, columns]. A negative target leaves its row out.
    /// </summary>
    public static (double Loss, double[] Gradient, double[] RowLoss) Hard(double[] scores, int columns, int[] targets)
    {
        int count = Math.Max(1, targets.Count(t => t >= 0));
        double[] gradient = new double[scores.Length], rowLoss = new double[targets.Length];
        for (int r = 0; r < targets.Length; r++)
        {
            if (targets[r] < 0) continue;
            double[] row = LogSoftmax(scores.AsSpan(r * columns, columns));
            rowLoss[r] = -row[targets[r]];
            for (int j = 0; j < columns; j++) gradient[(r * columns) + j] = (Math.Exp(row[j]) - (j == targets[r] ? 1 : 0)) / count;
        }
        return (rowLoss.Sum() / count, gradient, rowLoss);
    }

    /// <summary>Mean over rows of -sum over j of target[r, j] * log_softmax(row)[first[r] + j], the softmax over those columns only.</summary>
    public static (double Loss, double[] Gradient) Soft(double[] scores, int columns, double[] targets, int groupSize, int[] first)
    {
        double[] gradient = new double[scores.Length];
        double loss = 0;
        for (int r = 0; r < first.Length; r++)
        {
            double[] row = LogSoftmax(scores.AsSpan((r * columns) + first[r], groupSize));
            double total = 0;
            for (int j = 0; j < groupSize; j++)
            {
                loss -= targets[(r * groupSize) + j] * row[j] / first.Length;
                total += targets[(r * groupSize) + j];
            }
            for (int j = 0; j < groupSize; j++)
                gradient[(r * columns) + first[r] + j] = ((Math.Exp(row[j]) * total) - targets[(r * groupSize) + j]) / first.Length;
        }
        return (loss, gradient);
    }

    /// <summary>
    /// sum over i &lt; groupSize of the mean over b of target[b, i] * -log softmax at column b * groupSize + i over all columns except
    /// b * groupSize .. b * groupSize + i - 1.
    /// </summary>
    public static (double Loss, double[] Gradient) Staircase(double[] scores, int columns, double[] targets, int groupSize)
    {
        int rows = scores.Length / columns;
        double[] gradient = new double[scores.Length];
        double loss = 0;
        for (int b = 0; b < rows; b++)
        {
            for (int i = 0; i < groupSize; i++)
            {
                int[] kept = [.. Enumerable.Range(0, columns).Where(j => j < b * groupSize || j >= (b * groupSize) + i)];
                double[] row = LogSoftmax([.. kept.Select(j => scores[(b * columns) + j])]);
                double weight = targets[(b * groupSize) + i] / rows;
                for (int j = 0; j < kept.Length; j++)
                {
                    bool right = kept[j] == (b * groupSize) + i;
                    if (right) loss -= weight * row[j];
                    gradient[(b * columns) + kept[j]] += weight * (Math.Exp(row[j]) - (right ? 1 : 0));
                }
            }
        }
        return (loss, gradient);
    }

    /// <summary>log softmax of a row.</summary>
    public static double[] LogSoftmax(ReadOnlySpan<double> row)
    {
        double most = double.NegativeInfinity, sum = 0;
        foreach (double v in row) most = Math.Max(most, v);
        foreach (double v in row) sum += Math.Exp(v - most);
        double[] result = new double[row.Length];
        for (int j = 0; j < row.Length; j++) result[j] = row[j] - most - Math.Log(sum);
        return result;
    }
}
