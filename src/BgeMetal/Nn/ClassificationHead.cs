using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Nn;

/// <summary>
/// A score from the first token: out(tanh(dense(cls))). BERT calls the two layers <c>pooler.dense</c> and <c>classifier</c>, XLM-RoBERTa
/// <c>classifier.dense</c> and <c>classifier.out_proj</c>; the arithmetic is the same.
/// </summary>
/// <param name="parameters">Where the layers are.</param>
/// <param name="names">Which class's layers.</param>
/// <param name="dropout">Probability of dropping an element before the last layer, and in XLM-RoBERTa before the first too; in training only.</param>
internal sealed class ClassificationHead(ParameterStore parameters, ClassificationHeadNames names, float dropout = 0)
{
    private readonly LinearWeight _dense = parameters.Linear(names.Dense);
    private readonly LinearWeight _output = parameters.Linear(names.Output);

    /// <summary>The linear layers of the head.</summary>
    public static IEnumerable<LinearSpec> LinearSpecs(ClassificationHeadNames names, int hiddenSize, int numLabels) =>
        [new([names.Dense], hiddenSize, hiddenSize), new([names.Output], numLabels, hiddenSize)];

    /// <summary>cls [B, D] -> logits [B, labels].</summary>
    /// <param name="tape">What the operations run on.</param>
    /// <param name="cls">First tokens' vectors.</param>
    /// <param name="firstSequence">Row 0's number in the whole batch of which this is a part; dropout masks depend on it.</param>
    public Tensor Forward(Tape tape, Tensor cls, int firstSequence = 0)
    {
        Tensor input = names.DropsInput ? tape.Dropout(cls, dropout, firstSequence) : cls;
        return tape.Linear(tape.Dropout(tape.Linear(input, _dense, Activation.Tanh), dropout, firstSequence), _output);
    }
}

/// <summary>State-dict prefixes of the two layers of a classification head.</summary>
/// <param name="Dense">The layer before tanh.</param>
/// <param name="Output">The layer that gives the logits.</param>
/// <param name="DropsInput">Whether dropout comes before the first layer too.</param>
internal sealed record ClassificationHeadNames(string Dense, string Output, bool DropsInput)
{
    /// <summary>BertForSequenceClassification.</summary>
    public static ClassificationHeadNames Bert { get; } = new("pooler.dense", "classifier", DropsInput: false);

    /// <summary>XLMRobertaForSequenceClassification.</summary>
    public static ClassificationHeadNames XlmRoberta { get; } = new("classifier.dense", "classifier.out_proj", DropsInput: true);
}
