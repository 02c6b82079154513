using System.Runtime.InteropServices;
using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training.Objectives;

/// <summary>
/// RetroMAE (Xiao et al. 2022, arXiv:2205.12035, equation 7): the encoder's masked-LM loss plus the loss of decoding the text from its CLS vector, both as
/// means over their labelled rows, both through the encoder's tied masked-LM head. Exactly FlagEmbedding's RetroMAEForPretraining. The encoder's last layer
/// computes only what is read: CLS rows and labelled rows.
/// </summary>
internal sealed class RetroMaeObjective : ITrainingObjective<RetroMaeBatch>, IDisposable
{
    private readonly TrainableModel _model;
    private readonly MaskedLanguageHead _head;
    private readonly RetroMaeDecoder _decoder;
    private readonly Arena _arena;
    private readonly PackedBatch _masked;
    private readonly PackedBatch _original;

    /// <summary>The objective over a model that was loaded with the parameters of head and decoder.</summary>
    public RetroMaeObjective(TrainableModel model, MaskedLanguageHeadNames names)
    {
        _model = model;
        _head = new MaskedLanguageHead(model.Parameters, model.Shape, names);
        _decoder = new RetroMaeDecoder(model.Encoder.Embeddings, model.Parameters, model.Shape);
        _arena = new Arena(model.Device);
        _masked = new PackedBatch(model.Positions);
        _original = new PackedBatch(model.Positions);
    }

    /// <summary>What a step computes on the way to its loss.</summary>
    /// <param name="Cls">The encoder's CLS vectors [B, D].</param>
    /// <param name="Query">The decoder's queries [T, D].</param>
    /// <param name="KeyValue">What its keys and values are projected from [T, D].</param>
    /// <param name="Decoded">Its hidden states at the labelled rows; null without any.</param>
    /// <param name="EncoderLoss">The encoder's masked-LM loss; null where nothing carries a label, as in a batch of empty texts.</param>
    /// <param name="DecoderLoss">The decoder's loss; null likewise.</param>
    internal readonly record struct Pass(Tensor Cls, Tensor Query, Tensor KeyValue, Tensor? Decoded, Tensor? EncoderLoss, Tensor? DecoderLoss);

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes;

    /// <inheritdoc/>
    public double Backpropagate(RetroMaeBatch batch, float scale, ulong seed) => Backpropagate(batch, scale, seed, null);

    /// <summary>The same; <paramref name="observe"/> sees the forward pass before its memory is given back.</summary>
    internal double Backpropagate(RetroMaeBatch batch, float scale, ulong seed, Action<Pass>? observe)
    {
        using Tape tape = Tape.Record(_arena, _model.Parameters, seed);
        Pass pass = Forward(tape, batch);
        observe?.Invoke(pass);
        Tensor[] losses = [.. new[] { pass.EncoderLoss, pass.DecoderLoss }.OfType<Tensor>()];
        if (losses.Length == 0) return 0;
        Tensor loss = tape.WeightedSum(losses, [.. losses.Select(_ => 1f)]);
        double value = loss.RowSpan(0)[0];
        if (double.IsFinite(value)) tape.Backward(loss, scale);
        return value;
    }

    /// <inheritdoc/>
    public string? FirstNotFinite(RetroMaeBatch batch, ulong seed)
    {
        LayerProbe probe = new();
        using Tape tape = Tape.Record(_arena, _model.Parameters, seed, probe.Look);
        Forward(tape, batch);
        return probe.FirstNotFinite;
    }

    /// <inheritdoc/>
    public long Tokens(RetroMaeBatch batch) => batch.Tokens;

    /// <inheritdoc/>
    public string Describe(RetroMaeBatch batch) => string.Join(", ", batch.Places);

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private Pass Forward(Tape tape, RetroMaeBatch batch)
    {
        PackedTensors masked = Upload(_masked, batch.Masked), original = Upload(_original, batch.Original);
        LabelledRows read = LabelledRows.Of(batch.Masked, batch.EncoderRows);
        ChosenRows chosen = new(_arena.Integers(read.Rows), _arena.Integers(read.Offsets));
        Tensor hidden = _model.Encoder.ForwardRows(tape, masked, chosen);
        Tensor cls = tape.ClsPooling(hidden, chosen.Offsets);
        Tensor? encoderLoss = read.Labelled.Length == 0 ? null : Loss(tape, tape.GatherRows(hidden, _arena.Integers(read.Labelled)), batch.EncoderLabels);
        (Tensor query, Tensor keyValue) = _decoder.Streams(tape, cls, original);
        if (batch.DecoderRows.Length == 0) return new Pass(cls, query, keyValue, null, encoderLoss, null);
        VisibleKeys visible = new(_arena.Integers(MemoryMarshal.Cast<ulong, int>(batch.Visible)), _arena.Integers(batch.VisibleStarts));
        Tensor decoded = _decoder.Forward(tape, query, keyValue, original, visible, _arena.Integers(batch.DecoderRows));
        return new Pass(cls, query, keyValue, decoded, encoderLoss, Loss(tape, decoded, batch.DecoderLabels));
    }

    private Tensor Loss(Tape tape, Tensor hidden, int[] labels) => _head.Loss(tape, hidden, _arena.Integers(labels));

    private PackedTensors Upload(PackedBatch packed, IReadOnlyList<TokenSequence> texts)
    {
        packed.Clear();
        foreach (TokenSequence text in texts) packed.Add(text);
        return packed.Upload(_arena);
    }
}
