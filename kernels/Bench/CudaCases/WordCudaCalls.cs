using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>Texts of L tokens and W words each for the bag-of-words loss.</summary>
internal readonly struct WordOperands<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
{
    private readonly BagOfWordsShape _shape = new(s["B"], s["B"] * s["L"], s["D"], s["V"]);
    private readonly BagOfWordsTexts _texts = new(o.Integers(s["B"] + 1, s["L"]), 1, o.Integers(s["B"] * s["W"], s["V"] / ((s["B"] * s["W"]) + 1)), o.Integers(s["B"] + 1, s["W"]), o.Positive<FP32>(s["B"]));
    private readonly DeviceMatrix<T> _x = o.Matrix<T>((long)s["B"] * s["L"], s["D"]), _weight = o.Matrix<T>(s["V"], s["D"], 0.05f);
    private readonly DevicePointer<T> _bias = o.Values<T>(s["V"]);
    private readonly BagOfWordsMaxima _maxima = new(o.Matrix<FP32>(s["B"], s["V"]), o.Reserve<int>((long)s["B"] * s["V"]), o.Reserve<FP32>(s["B"]));
    private readonly DevicePointer<FP32> _textLoss = o.Reserve<FP32>(s["B"]), _loss = o.Reserve<FP32>(1);

    /// <summary>Enqueues the forward pass.</summary>
    public void Forward() => BagOfWords.Forward(o.Device, _shape, _texts, _x, _weight, _bias, _maxima, _textLoss, _loss);

    /// <summary>Runs the forward pass, makes room for the gradients and returns the backward pass, which overwrites the maxima: its numbers change from run to run, its work does not.</summary>
    public Action Backward()
    {
        Forward();
        WordOperands<T> words = this;
        CudaOperands operands = o;
        DeviceMatrix<T> dx = o.Matrix<T>(_shape.Rows, _shape.Dim);
        DeviceMatrix<FP32> dWeight = o.Matrix<FP32>(_shape.Vocabulary, _shape.Dim);
        DevicePointer<FP32> dBias = o.Values<FP32>(_shape.Vocabulary);
        return () => BagOfWords.Backward(operands.Device, words._shape, words._texts, words._x, words._weight, words._maxima, 1f, dx, false, dWeight, dBias);
    }
}

/// <summary>DupMAE's bag-of-words loss.</summary>
internal readonly struct WordsForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        WordOperands<T> words = new(o, s);
        return words.Forward;
    }
}

/// <summary>Its gradients.</summary>
internal readonly struct WordsGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => new WordOperands<T>(o, s).Backward();
}
