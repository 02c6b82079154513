using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>Embeddings and transformer layers of BERT and XLM-RoBERTa, which differ only in how the batch counts positions.</summary>
internal sealed class BertEncoder
{
    private readonly BertEmbeddings _embeddings;
    private readonly BertLayer[] _layers;

    /// <summary>An encoder over parameters laid out by <see cref="Specs"/> and <see cref="LinearSpecs"/>.</summary>
    public BertEncoder(ParameterStore parameters, EncoderShape shape)
    {
        _embeddings = new BertEmbeddings(parameters, shape);
        _layers = [.. Enumerable.Range(0, shape.NumLayers).Select(index => new BertLayer(parameters, shape, Prefix(index)))];
    }

    /// <summary>The module before the layers.</summary>
    public BertEmbeddings Embeddings => _embeddings;

    /// <summary>Tables and vectors of the encoder, by Hugging Face name.</summary>
    public static IEnumerable<ParameterSpec> Specs(EncoderShape shape) =>
        BertEmbeddings.Specs(shape).Concat(Enumerable.Range(0, shape.NumLayers).SelectMany(index => BertLayer.Specs(shape, Prefix(index))));

    /// <summary>Linear layers of the encoder.</summary>
    public static IEnumerable<LinearSpec> LinearSpecs(EncoderShape shape) =>
        Enumerable.Range(0, shape.NumLayers).SelectMany(index => BertLayer.LinearSpecs(shape, Prefix(index)));

    /// <summary>The last hidden state of every token: [T] ids -> [T, D].</summary>
    public Tensor Forward(Tape tape, PackedTensors batch) => _layers.Length == 0
        ? _embeddings.Forward(tape, batch)
        : _layers[^1].Forward(tape, AllButLast(tape, batch), batch);

    /// <summary>The last hidden state of each sequence's first token: [T] ids -> [B, D]; the last layer computes nothing else.</summary>
    public Tensor ForwardCls(Tape tape, PackedTensors batch) => _layers[^1].ForwardCls(tape, AllButLast(tape, batch), batch);

    /// <summary>The last hidden state of the chosen rows: [T] ids -> [R, D]; the last layer computes nothing else.</summary>
    public Tensor ForwardRows(Tape tape, PackedTensors batch, ChosenRows chosen) => _layers.Length == 0
        ? tape.GatherRows(_embeddings.Forward(tape, batch), chosen.Rows)
        : _layers[^1].ForwardRows(tape, AllButLast(tape, batch), batch, chosen);

    private Tensor AllButLast(Tape tape, PackedTensors batch)
    {
        ArenaMark mark = tape.Arena.Mark();
        Tensor x = _embeddings.Forward(tape, batch);
        for (int index = 0; index < _layers.Length - 1; index++)
        {
            x = _layers[index].Forward(tape, x, batch);
            tape.Compact(mark, x);
        }
        return x;
    }

    private static string Prefix(int index) => $"encoder.layer.{index}.";
}
