namespace BgeMetal.Benchmarks.Models;

/// <summary>
/// The sizes of a BERT encoder, as config.json gives them. The named shapes are those of published checkpoints; speed depends on the shape and
/// not on the values of the weights, so the benchmarks run them with random weights.
/// </summary>
internal sealed record EncoderShape(string Name, int Layers, int HiddenSize, int Heads, int IntermediateSize, int VocabularySize,
    int Positions = 512, int TokenTypes = 2, double Epsilon = 1e-12)
{
    /// <summary>The shapes that the benchmarks know, smallest first.</summary>
    public static IReadOnlyList<EncoderShape> Known { get; } =
    [
        new("bge-small-zh", 4, 512, 8, 2048, 21128),
        new("bge-small-en", 12, 384, 12, 1536, 30522),
        new("bge-base", 12, 768, 12, 3072, 30522),
    ];

    /// <summary>The known shape of that name.</summary>
    /// <exception cref="BgeMetalException">There is none.</exception>
    public static EncoderShape Named(string name) =>
        Known.FirstOrDefault(shape => shape.Name == name)
        ?? throw new BgeMetalException($"unknown model shape '{name}'", "known are " + string.Join(", ", Known.Select(shape => shape.Name)));

    /// <summary>Components of one attention head.</summary>
    public int HeadSize => HiddenSize / Heads;

    /// <summary>Every parameter of the encoder: its Hugging Face name and its shape, linear weights as [out, in]. No pooler: the CLS row is the embedding.</summary>
    public IEnumerable<(string Name, int[] Dimensions)> Parameters()
    {
        yield return ("embeddings.word_embeddings.weight", [VocabularySize, HiddenSize]);
        yield return ("embeddings.position_embeddings.weight", [Positions, HiddenSize]);
        yield return ("embeddings.token_type_embeddings.weight", [TokenTypes, HiddenSize]);
        yield return ("embeddings.LayerNorm.weight", [HiddenSize]);
        yield return ("embeddings.LayerNorm.bias", [HiddenSize]);
        for (int layer = 0; layer < Layers; layer++)
        {
            string prefix = LayerPrefix(layer);
            foreach (string part in (string[])["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"])
            {
                yield return ($"{prefix}{part}.weight", [HiddenSize, HiddenSize]);
                yield return ($"{prefix}{part}.bias", [HiddenSize]);
            }
            yield return ($"{prefix}attention.output.LayerNorm.weight", [HiddenSize]);
            yield return ($"{prefix}attention.output.LayerNorm.bias", [HiddenSize]);
            yield return ($"{prefix}intermediate.dense.weight", [IntermediateSize, HiddenSize]);
            yield return ($"{prefix}intermediate.dense.bias", [IntermediateSize]);
            yield return ($"{prefix}output.dense.weight", [HiddenSize, IntermediateSize]);
            yield return ($"{prefix}output.dense.bias", [HiddenSize]);
            yield return ($"{prefix}output.LayerNorm.weight", [HiddenSize]);
            yield return ($"{prefix}output.LayerNorm.bias", [HiddenSize]);
        }
    }

    /// <summary>What the names of a layer's parameters start with.</summary>
    public static string LayerPrefix(int layer) => $"encoder.layer.{layer}.";
}
