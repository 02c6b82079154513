using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>
/// The masked-LM head (Devlin et al. 2019, appendix A.1; as transformers has it): LayerNorm(gelu(dense(x))), then the word table as output matrix, and a bias.
/// Computed only for rows that carry a label, and never as [rows, V] logits.
/// </summary>
internal sealed class MaskedLanguageHead(ParameterStore parameters, EncoderShape shape, MaskedLanguageHeadNames names)
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
    public Tensor Loss(Tape tape, Tensor hidden, Tensor labels)
    {
        Tensor transformed = tape.Linear(hidden, _dense, Activation.Gelu);
        return tape.LinearCrossEntropy(tape.LayerNorm(transformed, _gamma, _beta, shape.LayerNormEpsilon), _table, _bias, labels);
    }
}

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
