using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>
/// RetroMAE's enhanced decoder (Xiao et al. 2022, arXiv:2205.12035, section 3.2, equations 4 to 6): one transformer layer of its own whose queries are the
/// sentence vector at every position, and whose keys and values are the sentence vector and the embeddings of the unmasked words. Every position sees its own
/// choice of keys, never itself. The embedding module is the encoder's; its LayerNorm also applies to the queries, as in FlagEmbedding.
/// </summary>
internal sealed class RetroMaeDecoder(BertEmbeddings embeddings, ParameterStore parameters, EncoderShape shape)
{
    /// <summary>What the names of its parameters begin with.</summary>
    public const string Prefix = "c_head.";

    private readonly BertLayer _layer = new(parameters, shape, Prefix);

    /// <summary>The vectors of the layer.</summary>
    public static IEnumerable<ParameterSpec> Specs(EncoderShape shape) => BertLayer.Specs(shape, Prefix);

    /// <summary>The linear layers of the layer.</summary>
    public static IEnumerable<LinearSpec> LinearSpecs(EncoderShape shape) => BertLayer.LinearSpecs(shape, Prefix);

    /// <summary>The two streams [T, D] from the sentence vectors [B, D] and the unmasked batch.</summary>
    public (Tensor Query, Tensor KeyValue) Streams(Tape tape, Tensor cls, PackedTensors unmasked) =>
        (embeddings.ForwardVectors(tape, cls, unmasked), tape.ReplaceFirstRows(embeddings.Forward(tape, unmasked), cls, unmasked.CuSeqlens));

    /// <summary>The decoder's hidden states [R, D] at the given distinct rows, int32 [R].</summary>
    public Tensor Forward(Tape tape, Tensor query, Tensor keyValue, PackedTensors unmasked, VisibleKeys visible, Tensor rows) =>
        _layer.ForwardTwoStreams(tape, query, keyValue, unmasked, visible, rows);
}
