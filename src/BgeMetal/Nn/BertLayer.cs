using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>
/// One post-LayerNorm transformer layer (Vaswani et al. 2017, section 3; Devlin et al. 2019):
/// a = LayerNorm(x + dense(attention(x))); y = LayerNorm(a + dense(gelu(dense(a)))), with the exact (erf) GELU.
/// </summary>
internal sealed class BertLayer
{
    private readonly LinearWeight _queryKeyValue;
    private readonly LinearWeight _query;
    private readonly LinearWeight _keyValue;
    private readonly LinearWeight _attentionOutput;
    private readonly LinearWeight _intermediate;
    private readonly LinearWeight _output;
    private readonly Tensor _attentionGamma;
    private readonly Tensor _attentionBeta;
    private readonly Tensor _outputGamma;
    private readonly Tensor _outputBeta;
    private readonly EncoderShape _shape;
    private readonly string _name;

    /// <summary>Layer <paramref name="prefix"/> (for instance <c>encoder.layer.0.</c>) over its parameters.</summary>
    public BertLayer(ParameterStore parameters, EncoderShape shape, string prefix)
    {
        _shape = shape;
        _name = prefix;
        _queryKeyValue = parameters.Linear(prefix + "attention.self.query");
        _query = _queryKeyValue.Layers(0, 1);
        _keyValue = _queryKeyValue.Layers(1, 2);
        _attentionOutput = parameters.Linear(prefix + "attention.output.dense");
        _intermediate = parameters.Linear(prefix + "intermediate.dense");
        _output = parameters.Linear(prefix + "output.dense");
        _attentionGamma = parameters[prefix + "attention.output.LayerNorm.weight"];
        _attentionBeta = parameters[prefix + "attention.output.LayerNorm.bias"];
        _outputGamma = parameters[prefix + "output.LayerNorm.weight"];
        _outputBeta = parameters[prefix + "output.LayerNorm.bias"];
    }

    /// <summary>The linear layers of layer <paramref name="prefix"/>; query, key and value side by side.</summary>
    public static IEnumerable<LinearSpec> LinearSpecs(EncoderShape shape, string prefix) =>
    [
        new([prefix + "attention.self.query", prefix + "attention.self.key", prefix + "attention.self.value"], shape.HiddenSize, shape.HiddenSize),
        new([prefix + "attention.output.dense"], shape.HiddenSize, shape.HiddenSize),
        new([prefix + "intermediate.dense"], shape.IntermediateSize, shape.HiddenSize),
        new([prefix + "output.dense"], shape.HiddenSize, shape.IntermediateSize),
    ];

    /// <summary>The LayerNorm vectors of layer <paramref name="prefix"/>.</summary>
    public static IEnumerable<ParameterSpec> Specs(EncoderShape shape, string prefix) =>
    [
        new(prefix + "attention.output.LayerNorm.weight", ParameterRole.Gain, 1, shape.HiddenSize),
        new(prefix + "attention.output.LayerNorm.bias", ParameterRole.Bias, 1, shape.HiddenSize),
        new(prefix + "output.LayerNorm.weight", ParameterRole.Gain, 1, shape.HiddenSize),
        new(prefix + "output.LayerNorm.bias", ParameterRole.Bias, 1, shape.HiddenSize),
    ];

    /// <summary>[T, D] -> [T, D].</summary>
    public Tensor Forward(Tape tape, Tensor x, PackedTensors batch)
    {
        Tensor qkv = tape.Watch(_name, "attention.self", tape.Linear(x, _queryKeyValue));
        Tensor context = tape.Attention(_queryKeyValue.Part(qkv, 0), _queryKeyValue.Part(qkv, 1), _queryKeyValue.Part(qkv, 2),
            batch.CuSeqlens, batch.CuSeqlens, new Longest(batch.MaxSeqlen, batch.MaxSeqlen), _shape.NumHeads, _shape.AttentionDropout, batch.FirstToken);
        return FeedForward(tape, x, context, batch.FirstToken);
    }

    /// <summary>
    /// The rows that CLS pooling reads, [T, D] -> [B, D]: keys and values for every token, all the rest for each sequence's first token only.
    /// Equal, bit for bit, to those rows of <see cref="Forward"/>.
    /// </summary>
    public Tensor ForwardCls(Tape tape, Tensor x, PackedTensors batch)
    {
        Tensor keyValue = KeyValue(tape, x);
        return ForwardSome(tape, tape.ClsPooling(x, batch.CuSeqlens), keyValue, batch.ClsOffsets, new Longest(1, batch.MaxSeqlen), batch, batch.FirstSequence);
    }

    /// <summary>
    /// Some rows, [T, D] -> [R, D]: keys and values for every token, all the rest for the chosen rows only. Without dropout equal, bit for bit, to those rows
    /// of <see cref="Forward"/>; dropout is drawn by the place among the chosen rows.
    /// </summary>
    public Tensor ForwardRows(Tape tape, Tensor x, PackedTensors batch, ChosenRows chosen)
    {
        Tensor keyValue = KeyValue(tape, x);
        return ForwardSome(tape, tape.GatherRows(x, chosen.Rows), keyValue, chosen.Offsets, new Longest(batch.MaxSeqlen, batch.MaxSeqlen), batch, firstRow: 0);
    }

    /// <summary>
    /// Queries from one stream, keys and values from another, [T, D] each; the residual is the query's stream, and each row sees its own choice of keys.
    /// What follows the attention is computed for the given rows only: [R, D].
    /// </summary>
    public Tensor ForwardTwoStreams(Tape tape, Tensor query, Tensor keyValue, PackedTensors batch, VisibleKeys visible, Tensor rows)
    {
        Tensor kv = KeyValue(tape, keyValue);
        Tensor context = tape.MaskedAttention(tape.Linear(query, _query), _keyValue.Part(kv, 0), _keyValue.Part(kv, 1),
            batch.CuSeqlens, batch.MaxSeqlen, visible, _shape.NumHeads, _shape.AttentionDropout);
        return FeedForward(tape, tape.GatherRows(query, rows), tape.GatherRows(context, rows), firstRow: 0);
    }

    private Tensor KeyValue(Tape tape, Tensor x) => tape.Watch(_name, "attention.self", tape.Linear(x, _keyValue));

    private Tensor ForwardSome(Tape tape, Tensor x, Tensor keyValue, Tensor offsets, Longest longest, PackedTensors batch, int firstRow)
    {
        Tensor context = tape.Attention(tape.Linear(x, _query), _keyValue.Part(keyValue, 0), _keyValue.Part(keyValue, 1),
            offsets, batch.CuSeqlens, longest, _shape.NumHeads, _shape.AttentionDropout, firstRow);
        return FeedForward(tape, x, context, firstRow);
    }

    private Tensor FeedForward(Tape tape, Tensor x, Tensor context, int firstRow)
    {
        Tensor projected = tape.Linear(context, _attentionOutput);
        Tensor attended = tape.AddLayerNorm(projected, x, _attentionGamma, _attentionBeta, _shape.LayerNormEpsilon, _shape.HiddenDropout, firstRow);
        tape.Watch(_name, "attention.output", attended);
        Tensor expanded = tape.Watch(_name, "intermediate", tape.Linear(attended, _intermediate, Activation.Gelu));
        Tensor contracted = tape.Linear(expanded, _output);
        return tape.Watch(_name, "output", tape.AddLayerNorm(contracted, attended, _outputGamma, _outputBeta, _shape.LayerNormEpsilon, _shape.HiddenDropout, firstRow));
    }
}
