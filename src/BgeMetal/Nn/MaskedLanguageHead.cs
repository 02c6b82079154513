using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>
/// The masked-LM head (Devlin et al. 2019, appendix A.1; as transformers has it): LayerNorm(gelu(dense(x))), then the word table as output matrix, and a bias.
/// Computed only for rows that carry a label, and never as [rows, V] logits, unless another <paramref name="loss"/> is given for comparison.
/// </summary>
internal sealed class MaskedLanguageHead(ParameterStore parameters, EncoderShape shape, MaskedLanguageHeadNames names, VocabularyLoss? loss = null)
{
    private readonly LinearWeight _dense = parameters.Linear(names.Dense);
    private readonly Tensor _gamma = parameters[names.LayerNorm + ".weight"];
    private readonly Tensor _beta = parameters[names.LayerNorm + ".bias"];
    private readonly Tensor _table = parameters[BertEmbeddings.WordTable];
    private readonly Tensor _bias = parameters[names.Bias];

    /// <summary>The vectors of the head. The output matrix is the encoder's word table.</summary>
    public static IEnumerable<ParameterSpec> Specs(EncoderShape shape, MaskedLanguageHeadNames names) =>
    [
        new(names.LayerNorm + ".weight", ParameterRole.Gain, 1, shape.HiddenSize),
        new(names.LayerNorm + ".bias", ParameterRole.Bias, 1, shape.HiddenSize),
        new(names.Bias, ParameterRole.Bias, 1, shape.VocabSize),
    ];

    /// <summary>The linear layer of the head.</summary>
    public static IEnumerable<LinearSpec> LinearSpecs(EncoderShape shape, MaskedLanguageHeadNames names) => [new([names.Dense], shape.HiddenSize, shape.HiddenSize)];

    /// <summary>The mean cross-entropy [1, 1] of hidden states [R, D] against labels, int32 [R]; a negative label does not count.</summary>
    public Tensor Loss(Tape tape, Tensor hidden, Tensor labels) => LossOfTransformed(tape, Transform(tape, hidden), labels);

    /// <summary>What the output matrix reads: LayerNorm(gelu(dense(hidden))), [R, D] -> [R, D].</summary>
    public Tensor Transform(Tape tape, Tensor hidden) => tape.LayerNorm(tape.Linear(hidden, _dense, Activation.Gelu), _gamma, _beta, shape.LayerNormEpsilon);

    /// <summary><see cref="Loss"/> from rows that <see cref="Transform"/> made.</summary>
    public Tensor LossOfTransformed(Tape tape, Tensor transformed, Tensor labels) =>
        loss is null ? tape.LinearCrossEntropy(transformed, _table, _bias, labels) : loss(tape, transformed, _table, _bias, labels);

    /// <summary>DupMAE's bag-of-words loss [1, 1] of a whole batch that <see cref="Transform"/> made, [T, D].</summary>
    public Tensor BagOfWords(Tape tape, Tensor transformed, Tensor cuSeqlens, WordBags bags) => tape.BagOfWords(transformed, _table, _bias, cuSeqlens, bags);
}

/// <summary>The mean cross-entropy [1, 1] of softmax(x table^T + bias) against labels, int32 [R], of which negative ones do not count.</summary>
internal delegate Tensor VocabularyLoss(Tape tape, Tensor x, Tensor table, Tensor bias, Tensor labels);

/// <summary>State-dict names of a masked-LM head.</summary>
/// <param name="Dense">Prefix of the layer before GELU.</param>
/// <param name="LayerNorm">Prefix of the LayerNorm.</param>
/// <param name="Bias">The output's bias [V].</param>
internal sealed record MaskedLanguageHeadNames(string Dense, string LayerNorm, string Bias)
{
    /// <summary>BertForMaskedLM.</summary>
    public static MaskedLanguageHeadNames Bert { get; } = new("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias");

    /// <summary>XLMRobertaForMaskedLM.</summary>
    public static MaskedLanguageHeadNames XlmRoberta { get; } = new("lm_head.dense", "lm_head.layer_norm", "lm_head.bias");
}
