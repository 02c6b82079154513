using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>Token ids to vectors: LayerNorm(word + position + token type) (Devlin et al. 2019, figure 2).</summary>
internal sealed class BertEmbeddings(ParameterStore parameters, EncoderShape shape)
{
    private const string Prefix = "embeddings.";
    private readonly EmbeddingTables _tables = new(parameters[WordTable], parameters[PositionTable], parameters[Prefix + "token_type_embeddings.weight"],
        shape.PadTokenId, shape.PaddingPosition);

    private readonly Tensor _gamma = parameters[Prefix + "LayerNorm.weight"];
    private readonly Tensor _beta = parameters[Prefix + "LayerNorm.bias"];

    /// <summary>The word table's name.</summary>
    public const string WordTable = Prefix + "word_embeddings.weight";

    /// <summary>The position table's name.</summary>
    public const string PositionTable = Prefix + "position_embeddings.weight";

    /// <summary>The parameters this module reads.</summary>
    public static IEnumerable<ParameterSpec> Specs(EncoderShape shape) =>
    [
        new(WordTable, ParameterRole.Table, shape.VocabSize, shape.HiddenSize, shape.PadTokenId),
        new(PositionTable, ParameterRole.Table, shape.MaxPositions, shape.HiddenSize, shape.PaddingPosition),
        new(Prefix + "token_type_embeddings.weight", ParameterRole.Table, shape.TypeVocabSize, shape.HiddenSize),
        new(Prefix + "LayerNorm.weight", ParameterRole.Gain, 1, shape.HiddenSize),
        new(Prefix + "LayerNorm.bias", ParameterRole.Bias, 1, shape.HiddenSize),
    ];

    /// <summary>[T] ids -> [T, D].</summary>
    public Tensor Forward(Tape tape, PackedTensors batch) =>
        tape.Dropout(tape.Watch(Prefix, "LayerNorm", tape.EmbeddingLayerNorm(batch, _tables, _gamma, _beta, shape.LayerNormEpsilon)), shape.HiddenDropout, batch.FirstToken);

    /// <summary>A vector a sequence in place of its words: LayerNorm(given + position + token type 0), [B, D] -> [T, D].</summary>
    public Tensor ForwardVectors(Tape tape, Tensor given, PackedTensors batch) =>
        tape.Dropout(tape.LayerNorm(tape.EmbeddingOfVectors(given, batch, _tables), _gamma, _beta, shape.LayerNormEpsilon), shape.HiddenDropout, batch.FirstToken);
}
