using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// Floats that a training step keeps for each row: with d = D + 16, i = I + 16 (rows are padded) and q the row of query, key and value, 5 + 2 d for the embeddings;
/// q + 7 d + 2 i + H + 4 for each layer; q + 4 d + i for the gradients on their way down, which layers share. Dropout adds one row to each place it has.
/// </summary>
internal readonly struct ActivationFloats
{
    private const int Padding = 16;
    private readonly int _dropouts;
    private readonly int _heads;
    private readonly long _column;

    /// <summary>The floats of an encoder of this shape.</summary>
    public ActivationFloats(EncoderShape shape)
    {
        _dropouts = shape.HiddenDropout > 0 ? 1 : 0;
        _heads = shape.NumHeads;
        _column = LinearWeight.Stride(new LinearSpec([""], shape.HiddenSize, shape.HiddenSize));
        Row = shape.HiddenSize + Padding;
        Expanded = shape.IntermediateSize + Padding;
    }

    /// <summary>A row of hidden states.</summary>
    public long Row { get; }

    /// <summary>A row of the feed-forward block's inside.</summary>
    public long Expanded { get; }

    /// <summary>A query.</summary>
    public long Query => _column + Padding;

    /// <summary>A key and a value.</summary>
    public long KeyValue => (2 * _column) + Padding;

    /// <summary>Query, key and value side by side.</summary>
    public long QueryKeyValue => (3 * _column) + Padding;

    /// <summary>Ids, sum, LayerNorm.</summary>
    public long Embeddings => 5 + ((2 + _dropouts) * Row);

    /// <summary>What attention itself leaves: its result and the logarithms of its sums.</summary>
    public long Context => Row + _heads;

    /// <summary>A layer behind its attention.</summary>
    public long AfterAttention => ((6 + (2 * _dropouts)) * Row) + (2 * Expanded) + 4;

    /// <summary>A whole layer.</summary>
    public long Layer => QueryKeyValue + Context + AfterAttention;

    /// <summary>Gradients of hidden states on their way down a layer, those of query, key and value left out.</summary>
    public long RowGradients => ((4 + _dropouts) * Row) + Expanded;
}
