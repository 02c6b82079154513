using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>Where the values of one fresh matrix or table come from.</summary>
/// <param name="Sequence">The parameter whose random sequence is read: its own, or that of a parameter it begins equal to.</param>
/// <param name="StandardDeviation">Of the normal values.</param>
internal readonly record struct InitialDistribution(string Sequence, double StandardDeviation)
{
    /// <summary>BERT's standard deviation, for every matrix and table.</summary>
    public const double BertDeviation = 0.02;

    // What a normalised vector scores against itself in a head: e^4 is enough to stand out of a few dozen other tokens, whose scores are about zero.
    private const double SelfScore = 4;

    // Positions and segments are a smaller part of a token's first vector than its word, so that equal words are alike wherever they stand.
    private const double PlaceDeviation = 0.35 * BertDeviation;

    /// <summary>The distribution of <paramref name="spec"/> in a fresh encoder.</summary>
    public static InitialDistribution Of(ParameterSpec spec, EncoderShape shape, Initialization initialization)
    {
        if (initialization == Initialization.Bert) return new(spec.Name, BertDeviation);
        if (spec.Role != ParameterRole.Matrix)
            return new(spec.Name, spec.Name == BertEmbeddings.WordTable ? BertDeviation : PlaceDeviation);
        string queries = spec.Name.Replace(".self.key.", ".self.query.", StringComparison.Ordinal);
        if (!queries.Contains(".self.query.", StringComparison.Ordinal)) return new(spec.Name, 1 / Math.Sqrt(spec.Columns));
        // With W of variance s^2 and |x|^2 = inputs, |W x|^2 = width * inputs * s^2 in a head of this width, and the score is that over sqrt(width).
        double width = (double)shape.HiddenSize / shape.NumHeads;
        return new(queries, Math.Sqrt(SelfScore * Math.Sqrt(width) / (width * spec.Columns)));
    }
}
