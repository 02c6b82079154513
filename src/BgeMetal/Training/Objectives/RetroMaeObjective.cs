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
/// computes only what is read: CLS rows and labelled rows. DupMAE (Xiao et al., arXiv:2211.08769, equation 9) adds the bag-of-words loss of all tokens but the first.
/// </summary>
internal sealed class RetroMaeObjective : ITrainingObjective<RetroMaeBatch>, IDisposable
{
    private readonly TrainableModel _model;
    private readonly MaskedLanguageHead _head;
    private readonly RetroMaeDecoder _decoder;
    private readonly Arena _arena;
    private readonly PackedBatch _masked;
    private readonly PackedBatch _original;
    private readonly float _bagOfWordsWeight;

    /// <summary>The objective over a model that was loaded with the parameters of head and decoder.</summary>
    /// <param name="model">The model.</param>
    /// <param name="names">The head's names.</param>
    /// <param name="bagOfWordsWeight">The weight of DupMAE's loss; 0 for RetroMAE.</param>
    /// <param name="loss">Another way to compute the losses over the vocabulary, to compare with; null for the usual one.</param>
    public RetroMaeObjective(TrainableModel model, MaskedLanguageHeadNames names, float bagOfWordsWeight = 0, VocabularyLoss? loss = null)
    {
        _model = model;
        _bagOfWordsWeight = bagOfWordsWeight;
        _head = new MaskedLanguageHead(model.Parameters, model.Shape, names, loss);
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
    internal readonly record struct Pass(Tensor Cls, Tensor Query, Tensor KeyValue, Tensor? Decoded, Tensor? EncoderLoss, Tensor? DecoderLoss)
    {
        /// <summary>What DupMAE's scores are computed from [T, D]; null in RetroMAE.</summary>
        public Tensor? Transformed { get; init; }

        /// <summary>DupMAE's bag-of-words loss; null in RetroMAE.</summary>
        public Tensor? BagOfWordsLoss { get; init; }
    }

    /// <inheritdoc/>
    public long ReservedBytes => _arena.ReservedBytes;

    /// <summary>The most bytes of activations and gradients in use at one time.</summary>
    public long PeakBytes => _arena.PeakBytes;

    /// <inheritdoc/>
    public Device Device => _model.Device;

    /// <summary>When given, sees each forward pass before its memory is given back.</summary>
    internal Action<Pass>? Observer { get; set; }

    /// <inheritdoc/>
    public void Backpropagate(RetroMaeBatch batch, Tensor gradient, ulong seed, Tensor loss)
    {
        using Tape tape = Tape.Record(_arena, _model.Parameters, seed);
        Pass pass = Forward(tape, batch);
        Observer?.Invoke(pass);
        (Tensor? Loss, float Weight)[] losses = [(pass.EncoderLoss, 1), (pass.DecoderLoss, 1), (pass.BagOfWordsLoss, _bagOfWordsWeight)];
        losses = [.. losses.Where(one => one.Loss is not null)];
        if (losses.Length == 0) Device.Clear(loss.Address, sizeof(float));
        else TrainingObjectives.Finish(tape, tape.WeightedSum([.. losses.Select(one => one.Loss!.Value)], [.. losses.Select(one => one.Weight)]), gradient, loss);
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
        Pass encoded = _bagOfWordsWeight == 0 ? EncodeReadRows(tape, masked, batch) : EncodeAllRows(tape, masked, batch);
        (Tensor query, Tensor keyValue) = _decoder.Streams(tape, encoded.Cls, original);
        encoded = encoded with { Query = query, KeyValue = keyValue };
        if (batch.DecoderRows.Length == 0) return encoded;
        VisibleKeys visible = new(_arena.Integers(MemoryMarshal.Cast<ulong, int>(batch.Visible)), _arena.Integers(batch.VisibleStarts));
        Tensor decoded = _decoder.Forward(tape, query, keyValue, original, visible, _arena.Integers(batch.DecoderRows));
        return encoded with { Decoded = decoded, DecoderLoss = _head.Loss(tape, decoded, _arena.Integers(batch.DecoderLabels)) };
    }

    private Pass EncodeReadRows(Tape tape, PackedTensors masked, RetroMaeBatch batch)
    {
        LabelledRows read = LabelledRows.Of(batch.Masked, batch.EncoderRows);
        ChosenRows chosen = new(_arena.Integers(read.Rows), _arena.Integers(read.Offsets));
        Tensor hidden = _model.Encoder.ForwardRows(tape, masked, chosen);
        Pass pass = new() { Cls = tape.ClsPooling(hidden, chosen.Offsets) };
        if (read.Labelled.Length == 0) return pass;
        return pass with { EncoderLoss = _head.Loss(tape, tape.GatherRows(hidden, _arena.Integers(read.Labelled)), _arena.Integers(batch.EncoderLabels)) };
    }

    /// <summary>The bag-of-words loss reads every token, through the same head.</summary>
    private Pass EncodeAllRows(Tape tape, PackedTensors masked, RetroMaeBatch batch)
    {
        Tensor hidden = _model.Encoder.Forward(tape, masked), transformed = _head.Transform(tape, hidden);
        WordBag words = WordBag.Of(batch.Original);
        Tensor weights = _arena.Floats(1, words.Weights.Length);
        weights.CopyFrom(words.Weights);
        WordBags bags = new(_arena.Integers(words.Words), _arena.Integers(words.Offsets), weights);
        Pass pass = new()
        {
            Cls = tape.ClsPooling(hidden, masked.CuSeqlens),
            Transformed = transformed,
            BagOfWordsLoss = _head.BagOfWords(tape, transformed, masked.CuSeqlens, bags),
        };
        if (batch.EncoderRows.Length == 0) return pass;
        Tensor labelled = tape.GatherRows(transformed, _arena.Integers(batch.EncoderRows));
        return pass with { EncoderLoss = _head.LossOfTransformed(tape, labelled, _arena.Integers(batch.EncoderLabels)) };
    }

    private PackedTensors Upload(PackedBatch packed, IReadOnlyList<TokenSequence> texts)
    {
        packed.Clear();
        foreach (TokenSequence text in texts) packed.Add(text);
        return packed.Upload(_arena);
    }
}
