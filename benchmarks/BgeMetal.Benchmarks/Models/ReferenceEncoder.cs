namespace BgeMetal.Benchmarks.Models;

/// <summary>
/// A BERT encoder in plain double-precision loops, one unpadded sequence at a time: the oracle of the <c>verify</c> command. Post-LayerNorm blocks,
/// exact GELU (Devlin et al. 2018, arXiv:1810.04805; Hendrycks and Gimpel 2016, arXiv:1606.08415).
/// </summary>
internal static class ReferenceEncoder
{
    /// <summary>The last hidden state, [tokens, hidden] row-major.</summary>
    public static double[] Forward(EncoderWeights weights, int[] tokenIds, int[] tokenTypeIds)
    {
        EncoderShape shape = weights.Shape;
        int hidden = shape.HiddenSize;
        float[] word = weights["embeddings.word_embeddings.weight"];
        float[] position = weights["embeddings.position_embeddings.weight"];
        float[] type = weights["embeddings.token_type_embeddings.weight"];
        double[] x = new double[tokenIds.Length * hidden];
        for (int t = 0; t < tokenIds.Length; t++)
            for (int c = 0; c < hidden; c++)
                x[t * hidden + c] = (double)word[tokenIds[t] * hidden + c] + position[t * hidden + c] + type[tokenTypeIds[t] * hidden + c];
        x = LayerNorm(weights, "embeddings.LayerNorm", x, hidden, shape.Epsilon);
        for (int layer = 0; layer < shape.Layers; layer++)
            x = Layer(weights, EncoderShape.LayerPrefix(layer), x);
        return x;
    }

    private static double[] Layer(EncoderWeights weights, string prefix, double[] x)
    {
        EncoderShape shape = weights.Shape;
        double[] q = Linear(weights, prefix + "attention.self.query", x, shape.HiddenSize);
        double[] k = Linear(weights, prefix + "attention.self.key", x, shape.HiddenSize);
        double[] v = Linear(weights, prefix + "attention.self.value", x, shape.HiddenSize);
        double[] attention = Linear(weights, prefix + "attention.output.dense", Attend(q, k, v, shape), shape.HiddenSize);
        double[] middle = LayerNorm(weights, prefix + "attention.output.LayerNorm", Sum(attention, x), shape.HiddenSize, shape.Epsilon);
        double[] wide = Linear(weights, prefix + "intermediate.dense", middle, shape.HiddenSize);
        for (int i = 0; i < wide.Length; i++)
            wide[i] *= 0.5 * (1 + Erf(wide[i] / Math.Sqrt(2)));
        double[] narrow = Linear(weights, prefix + "output.dense", wide, shape.IntermediateSize);
        return LayerNorm(weights, prefix + "output.LayerNorm", Sum(narrow, middle), shape.HiddenSize, shape.Epsilon);
    }

    private static double[] Attend(double[] q, double[] k, double[] v, EncoderShape shape)
    {
        int hidden = shape.HiddenSize, size = shape.HeadSize, tokens = q.Length / hidden;
        double[] output = new double[q.Length];
        double[] scores = new double[tokens];
        for (int head = 0; head < shape.Heads; head++)
            for (int i = 0; i < tokens; i++)
            {
                for (int j = 0; j < tokens; j++)
                {
                    scores[j] = 0;
                    for (int c = head * size; c < (head + 1) * size; c++)
                        scores[j] += q[i * hidden + c] * k[j * hidden + c];
                    scores[j] /= Math.Sqrt(size);
                }
                double largest = scores.Max(), sum = 0;
                for (int j = 0; j < tokens; j++)
                    sum += scores[j] = Math.Exp(scores[j] - largest);
                for (int j = 0; j < tokens; j++)
                    for (int c = head * size; c < (head + 1) * size; c++)
                        output[i * hidden + c] += scores[j] / sum * v[j * hidden + c];
            }
        return output;
    }

    private static double[] Linear(EncoderWeights weights, string name, double[] x, int inputs)
    {
        float[] weight = weights[name + ".weight"], bias = weights[name + ".bias"];
        int outputs = bias.Length, rows = x.Length / inputs;
        double[] y = new double[rows * outputs];
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < outputs; o++)
            {
                double sum = bias[o];
                for (int c = 0; c < inputs; c++)
                    sum += x[r * inputs + c] * weight[o * inputs + c];
                y[r * outputs + o] = sum;
            }
        return y;
    }

    private static double[] LayerNorm(EncoderWeights weights, string name, double[] x, int hidden, double epsilon)
    {
        float[] gamma = weights[name + ".weight"], beta = weights[name + ".bias"];
        double[] y = new double[x.Length];
        for (int start = 0; start < x.Length; start += hidden)
        {
            ReadOnlySpan<double> row = x.AsSpan(start, hidden);
            double mean = 0, variance = 0;
            foreach (double value in row)
                mean += value / hidden;
            foreach (double value in row)
                variance += (value - mean) * (value - mean) / hidden;
            for (int c = 0; c < hidden; c++)
                y[start + c] = (row[c] - mean) / Math.Sqrt(variance + epsilon) * gamma[c] + beta[c];
        }
        return y;
    }

    private static double[] Sum(double[] a, double[] b)
    {
        double[] sum = new double[a.Length];
        for (int i = 0; i < a.Length; i++)
            sum[i] = a[i] + b[i];
        return sum;
    }

    /// <summary>erf by its Taylor series, whose terms stay small enough for 1e-13 up to |x| = 3, and by Laplace's continued fraction of erfc beyond.</summary>
    private static double Erf(double x)
    {
        double a = Math.Abs(x);
        if (a < 3)
        {
            double term = x, sum = x;
            for (int n = 1; Math.Abs(term) > 1e-17 * Math.Abs(sum) && n < 200; n++)
            {
                term *= -x * x / n;
                sum += term / (2 * n + 1);
            }
            return 2 / Math.Sqrt(Math.PI) * sum;
        }
        double fraction = 0;
        for (int n = 60; n >= 1; n--)
            fraction = n / 2.0 / (a + fraction);
        return Math.Sign(x) * (1 - Math.Exp(-a * a) / Math.Sqrt(Math.PI) / (a + fraction));
    }
}
