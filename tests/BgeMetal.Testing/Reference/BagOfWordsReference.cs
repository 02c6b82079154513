namespace BgeMetal.Testing.Reference;

/// <summary>DupMAE's bag-of-words loss in double precision: the largest score of each output over a text's tokens, then cross-entropy with the text's words.</summary>
public static class BagOfWordsReference
{
    /// <summary>The mean over texts of -weights[b] * sum over words[b] of log softmax(maxima[b]).</summary>
    /// <param name="x">[rows, dim].</param>
    /// <param name="weight">[outputs, dim].</param>
    /// <param name="bias">[outputs], or null.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="offsets">Text b is the rows offsets[b] .. offsets[b + 1].</param>
    /// <param name="skipped">Rows left out at each text's start.</param>
    /// <param name="words">Each text's distinct words.</param>
    /// <param name="weights">What a word of each text weighs.</param>
    public static (double Loss, double[] TextLoss) Forward(double[] x, double[] weight, double[]? bias, int dim, int[] offsets, int skipped, int[][] words, double[] weights)
    {
        double[] losses = new double[words.Length];
        for (int b = 0; b < words.Length; b++)
        {
            (double[] maxima, int[] tokens) = Maxima(x, weight, bias, dim, offsets[b] + skipped, offsets[b + 1]);
            if (tokens[0] < 0) continue;
            double[] logs = CrossEntropyReference.LogSoftmax(maxima);
            losses[b] = -weights[b] * words[b].Sum(word => logs[word]);
        }
        return (losses.Average(), losses);
    }

    /// <summary>The gradients of the mean loss; a maximum's goes to the first token that has it.</summary>
    public static (double[] Dx, double[] Dweight, double[] Dbias) Backward(double[] x, double[] weight, double[]? bias, int dim, int[] offsets, int skipped, int[][] words, double[] weights)
    {
        int outputs = weight.Length / dim;
        double[] dx = new double[x.Length], dweight = new double[weight.Length], dbias = new double[outputs];
        for (int b = 0; b < words.Length; b++)
        {
            (double[] maxima, int[] tokens) = Maxima(x, weight, bias, dim, offsets[b] + skipped, offsets[b + 1]);
            if (tokens[0] < 0) continue;
            double[] logs = CrossEntropyReference.LogSoftmax(maxima);
            for (int v = 0; v < outputs; v++)
            {
                double gradient = weights[b] * ((words[b].Length * Math.Exp(logs[v])) - (words[b].Contains(v) ? 1 : 0)) / words.Length;
                dbias[v] += gradient;
                for (int d = 0; d < dim; d++)
                {
                    dx[(tokens[v] * dim) + d] += gradient * weight[(v * dim) + d];
                    dweight[(v * dim) + d] += gradient * x[(tokens[v] * dim) + d];
                }
            }
        }
        return (dx, dweight, dbias);
    }

    private static (double[] Maxima, int[] Tokens) Maxima(double[] x, double[] weight, double[]? bias, int dim, int from, int to)
    {
        int outputs = weight.Length / dim;
        double[] maxima = new double[outputs];
        int[] tokens = new int[outputs];
        for (int v = 0; v < outputs; v++)
        {
            (maxima[v], tokens[v]) = (double.NegativeInfinity, -1);
            for (int row = from; row < to; row++)
            {
                double score = bias?[v] ?? 0;
                for (int d = 0; d < dim; d++) score += x[(row * dim) + d] * weight[(v * dim) + d];
                if (score > maxima[v]) (maxima[v], tokens[v]) = (score, row);
            }
        }
        return (maxima, tokens);
    }
}
