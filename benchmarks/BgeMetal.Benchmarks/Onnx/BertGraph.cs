using BgeMetal.Benchmarks.Models;
using static BgeMetal.Benchmarks.Onnx.OnnxGraph;

namespace BgeMetal.Benchmarks.Onnx;

/// <summary>How the encoder is written down for the peer.</summary>
internal enum OnnxForm
{
    /// <summary>Standard operators only, as a PyTorch export has them.</summary>
    Plain,

    /// <summary>ONNX Runtime's fused operators, as its transformer optimizer leaves them (Attention, SkipLayerNormalization, BiasGelu, EmbedLayerNormalization).</summary>
    Fused,

    /// <summary>The fused form with MultiHeadAttention over three separate matrix products in place of Attention, which multiplies head by head.</summary>
    FusedSplit,

    /// <summary>
    /// The split fused form with a last layer that computes queries, attention and feed-forward for the first token only. No exporter writes this; it shows how much of a
    /// lead comes from the kernels and how much from not computing rows that CLS pooling throws away. Its only output is the CLS rows.
    /// </summary>
    FusedCls,
}

/// <summary>
/// Writes a BERT encoder as an ONNX model with the inputs input_ids, attention_mask, token_type_ids [batch, sequence] int64 and the outputs last_hidden_state
/// [batch, sequence, hidden] or cls [batch, hidden].
/// </summary>
internal sealed class BertGraph
{
    private readonly EncoderWeights weights;
    private readonly EncoderShape shape;
    private readonly OnnxGraph graph = new();
    private readonly string inputIds, attentionMask, tokenTypeIds;

    private BertGraph(EncoderWeights weights)
    {
        this.weights = weights;
        shape = weights.Shape;
        inputIds = graph.Input("input_ids", ElementType.Int64, "batch", "sequence");
        attentionMask = graph.Input("attention_mask", ElementType.Int64, "batch", "sequence");
        tokenTypeIds = graph.Input("token_type_ids", ElementType.Int64, "batch", "sequence");
    }

    /// <summary>The name of the output that has every row.</summary>
    public const string LastHiddenState = "last_hidden_state";

    /// <summary>The name of the output that has the first row of every text.</summary>
    public const string Cls = "cls";

    /// <summary>Writes the model file.</summary>
    /// <param name="clsOnly">Offer the CLS rows alone, so that no time goes into copying the rest out; always so for <see cref="OnnxForm.FusedCls"/>.</param>
    public static void Save(EncoderWeights weights, OnnxForm form, bool clsOnly, string path)
    {
        BertGraph bert = new(weights);
        string last = form == OnnxForm.Plain ? bert.PlainEncoder() : bert.FusedEncoder(form);
        if (clsOnly || form == OnnxForm.FusedCls)
            bert.graph.Output(Cls, bert.graph.Node("Gather", [last, bert.graph.Integer(0)], ("axis", 1L)), "batch", weights.Shape.HiddenSize);
        else
            bert.graph.Output(LastHiddenState, last, "batch", "sequence", weights.Shape.HiddenSize);
        bert.graph.Save(path);
    }

    private string PlainEncoder()
    {
        string length = graph.Node("Slice", [graph.Node("Shape", [inputIds]), graph.Integers(1), graph.Integers(2), graph.Integers(0)]);
        string positions = graph.Node("Slice", [Table("embeddings.position_embeddings.weight"), graph.Integers(0), length, graph.Integers(0)]);
        string words = graph.Node("Gather", [Table("embeddings.word_embeddings.weight"), inputIds]);
        string types = graph.Node("Gather", [Table("embeddings.token_type_embeddings.weight"), tokenTypeIds]);
        string x = LayerNorm("embeddings.LayerNorm", Add(Add(words, types), positions));

        string real = graph.Node("Cast", [graph.Node("Unsqueeze", [attentionMask, graph.Integers(1, 2)])], ("to", (long)ElementType.Float));
        string padding = graph.Node("Sub", [graph.Scalar("one", 1f), real]);
        string mask = graph.Node("Mul", [padding, graph.Scalar("lowest", float.MinValue)]);
        for (int layer = 0; layer < shape.Layers; layer++)
            x = PlainLayer(EncoderShape.LayerPrefix(layer), x, mask);
        return x;
    }

    private string PlainLayer(string prefix, string x, string mask)
    {
        string query = Heads(Linear(prefix + "attention.self.query", x), 0, 2, 1, 3);
        string key = Heads(Linear(prefix + "attention.self.key", x), 0, 2, 3, 1);
        string value = Heads(Linear(prefix + "attention.self.value", x), 0, 2, 1, 3);
        string scores = graph.Node("Div", [graph.Node("MatMul", [query, key]), graph.Scalar("score_divisor", MathF.Sqrt(shape.HeadSize))]);
        string shares = graph.Node("Softmax", [Add(scores, mask)], ("axis", -1L));
        string mixed = graph.Node("Transpose", [graph.Node("MatMul", [shares, value])], ("perm", new long[] { 0, 2, 1, 3 }));
        string context = graph.Node("Reshape", [mixed, graph.Integers(0, 0, shape.HiddenSize)]);
        string middle = LayerNorm(prefix + "attention.output.LayerNorm", Add(Linear(prefix + "attention.output.dense", context), x));

        string wide = Linear(prefix + "intermediate.dense", middle);
        string erf = graph.Node("Erf", [graph.Node("Div", [wide, graph.Scalar("sqrt_two", MathF.Sqrt(2f))])]);
        string twice = graph.Node("Mul", [wide, Add(erf, graph.Scalar("one", 1f))]);
        string gelu = graph.Node("Mul", [twice, graph.Scalar("half", 0.5f)]);
        return LayerNorm(prefix + "output.LayerNorm", Add(Linear(prefix + "output.dense", gelu), middle));
    }

    private string FusedEncoder(OnnxForm form)
    {
        string x = graph.Node(MicrosoftDomain, "EmbedLayerNormalization",
            [ToInt32(inputIds), ToInt32(tokenTypeIds), Table("embeddings.word_embeddings.weight"), Table("embeddings.position_embeddings.weight"),
             Table("embeddings.token_type_embeddings.weight"), Vector("embeddings.LayerNorm.weight"), Vector("embeddings.LayerNorm.bias")],
            2, ("epsilon", (float)shape.Epsilon));
        string mask = ToInt32(attentionMask);
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            string prefix = EncoderShape.LayerPrefix(layer);
            bool clsOnly = form == OnnxForm.FusedCls && layer == shape.Layers - 1;
            string queries = clsOnly ? graph.Node("Slice", [x, graph.Integers(0), graph.Integers(1), graph.Integers(1)]) : x;
            string context = form == OnnxForm.Fused ? FusedAttention(prefix, x, mask) : SplitAttention(prefix, queries, x, mask);
            x = FusedFeedForward(prefix, context, queries);
        }
        return x;
    }

    private string FusedAttention(string prefix, string x, string mask)
    {
        string weight = graph.Weight(prefix + "qkv.weight", [shape.HiddenSize, 3 * shape.HiddenSize], () => JoinedWeight(prefix));
        string bias = graph.Weight(prefix + "qkv.bias", [3 * shape.HiddenSize], () => JoinedBias(prefix));
        return graph.Node(MicrosoftDomain, "Attention", [x, weight, bias, mask], 1, ("num_heads", (long)shape.Heads));
    }

    private string SplitAttention(string prefix, string queries, string x, string mask)
    {
        string bias = graph.Weight(prefix + "qkv.bias", [3 * shape.HiddenSize], () => JoinedBias(prefix));
        string query = graph.Node("MatMul", [queries, Transposed(prefix + "attention.self.query.weight", shape.HiddenSize, shape.HiddenSize)]);
        string key = graph.Node("MatMul", [x, Transposed(prefix + "attention.self.key.weight", shape.HiddenSize, shape.HiddenSize)]);
        string value = graph.Node("MatMul", [x, Transposed(prefix + "attention.self.value.weight", shape.HiddenSize, shape.HiddenSize)]);
        return graph.Node(MicrosoftDomain, "MultiHeadAttention", [query, key, value, bias, mask], 1, ("num_heads", (long)shape.Heads));
    }

    private string FusedFeedForward(string prefix, string context, string residual)
    {
        string attention = graph.Node("MatMul", [context, Transposed(prefix + "attention.output.dense.weight", shape.HiddenSize, shape.HiddenSize)]);
        string middle = SkipLayerNorm(prefix + "attention.output", attention, residual);
        string wide = graph.Node("MatMul", [middle, Transposed(prefix + "intermediate.dense.weight", shape.IntermediateSize, shape.HiddenSize)]);
        string gelu = graph.Node(MicrosoftDomain, "BiasGelu", [wide, Vector(prefix + "intermediate.dense.bias")], 1);
        string narrow = graph.Node("MatMul", [gelu, Transposed(prefix + "output.dense.weight", shape.HiddenSize, shape.IntermediateSize)]);
        return SkipLayerNorm(prefix + "output", narrow, middle);
    }

    private string SkipLayerNorm(string part, string x, string residual) => graph.Node(MicrosoftDomain, "SkipLayerNormalization",
        [x, residual, Vector(part + ".LayerNorm.weight"), Vector(part + ".LayerNorm.bias"), Vector(part + ".dense.bias")], 1, ("epsilon", (float)shape.Epsilon));

    private string LayerNorm(string name, string x) =>
        graph.Node("LayerNormalization", [x, Vector(name + ".weight"), Vector(name + ".bias")], ("axis", -1L), ("epsilon", (float)shape.Epsilon));

    private string Linear(string name, string x)
    {
        int outputs = weights[name + ".bias"].Length;
        string product = graph.Node("MatMul", [x, Transposed(name + ".weight", outputs, weights[name + ".weight"].Length / outputs)]);
        return Add(product, Vector(name + ".bias"));
    }

    private string Heads(string x, params long[] permutation) =>
        graph.Node("Transpose", [graph.Node("Reshape", [x, graph.Integers(0, 0, shape.Heads, shape.HeadSize)])], ("perm", permutation));

    private string Add(string a, string b) => graph.Node("Add", [a, b]);

    private string ToInt32(string value) => graph.Node("Cast", [value], ("to", (long)ElementType.Int32));

    private string Table(string name) => graph.Weight(name, [weights[name].Length / shape.HiddenSize, shape.HiddenSize], () => weights[name]);

    private string Vector(string name) => graph.Weight(name, [weights[name].Length], () => weights[name]);

    private string Transposed(string name, int outputs, int inputs) =>
        graph.Weight(name, [inputs, outputs], () => Transpose(weights[name], outputs, inputs, new float[outputs * inputs], outputs, 0));

    /// <summary>Query, key and value weights, transposed and side by side: [hidden, 3 * hidden].</summary>
    private float[] JoinedWeight(string prefix)
    {
        int hidden = shape.HiddenSize;
        float[] joined = new float[3 * hidden * hidden];
        Transpose(weights[prefix + "attention.self.query.weight"], hidden, hidden, joined, 3 * hidden, 0);
        Transpose(weights[prefix + "attention.self.key.weight"], hidden, hidden, joined, 3 * hidden, hidden);
        return Transpose(weights[prefix + "attention.self.value.weight"], hidden, hidden, joined, 3 * hidden, 2 * hidden);
    }

    private float[] JoinedBias(string prefix) =>
        [.. weights[prefix + "attention.self.query.bias"], .. weights[prefix + "attention.self.key.bias"], .. weights[prefix + "attention.self.value.bias"]];

    private static float[] Transpose(float[] source, int rows, int columns, float[] target, int stride, int firstColumn)
    {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                target[c * stride + firstColumn + r] = source[r * columns + c];
        return target;
    }
}
