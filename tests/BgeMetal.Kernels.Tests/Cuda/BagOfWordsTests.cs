using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The bag-of-words loss and its gradients against the oracle, on whatever device a derived class supplies.</summary>
public abstract class BagOfWordsTests(KernelDevice device)
{
    private const float LossGradient = 2.5f;

    [Fact]
    public void Bf16_losses_and_gradients_agree_with_the_oracle() => Agrees<BF16>([5, 3, 12], 24, 97);

    [Fact]
    public void Fp32_losses_and_gradients_agree_with_the_oracle() => Agrees<FP32>([4, 9], 16, 131);

    [Fact]
    public void Fp16_losses_and_gradients_agree_with_the_oracle() => Agrees<FP16>([7], 8, 65);

    [Fact]
    public void Widths_that_tensor_cores_cannot_take_agree_too() => Agrees<BF16>([3, 6], 7, 33);

    [Fact]
    public void Texts_that_need_several_small_tiles_agree_too() => Agrees<BF16>([2, 2, 2, 131, 2], 8, 40);

    [Fact]
    public void Texts_that_need_several_large_tiles_agree_too() => Agrees<BF16>([140], 8, 70);

    [Fact]
    public void Texts_without_tokens_or_words_have_no_loss_and_no_gradient()
    {
        using Case<FP32> all = new(device, [1, 4, 0, 3], 8, 20, words: b => b == 3 ? [] : [b, 17]);
        all.Run();
        all.AssertAgrees();
        Assert.Equal([0f, 0f, 0f], new[] { 0, 2, 3 }.Select(text => all.TextLoss.ToArray()[text]));
    }

    [Fact]
    public void Of_equal_scores_the_first_token_s_counts()
    {
        using Case<BF16> all = new(device, [6, 130], 8, 40, whole: true);
        all.Run(backward: false);
        Assert.Equal(all.ExpectedTokens(), all.Tokens());
        all.Run();
        all.AssertAgrees();
    }

    [Fact]
    public void Stored_gradients_replace_what_was_there()
    {
        using Case<BF16> all = new(device, [4, 5], 8, 30);
        all.Run(accumulate: false);
        all.AssertAgrees(accumulate: false);
    }

    [Fact]
    public void A_score_that_is_not_finite_and_a_word_beyond_the_vocabulary_show_in_the_loss()
    {
        using Case<BF16> infinite = new(device, [4, 4], 8, 33, poison: float.NegativeInfinity), beyond = new(device, [4, 4], 8, 33, words: b => b == 0 ? [1, 33] : [2]);
        infinite.Run(backward: false);
        beyond.Run(backward: false);
        foreach (Case<BF16> one in new[] { infinite, beyond })
        {
            Assert.Equal([true, false], one.TextLoss.ToArray().Select(float.IsNaN));
            Assert.True(float.IsNaN(one.Loss.ToArray()[0]));
        }
    }

    [Fact]
    public void A_rerun_is_bit_equal()
    {
        using Case<BF16> one = new(device, [9, 4], 16, 70), other = new(device, [9, 4], 16, 70);
        one.Run();
        other.Run();
        Tolerance.AssertBitEqual(other.Loss.ToArray(), one.Loss.ToArray());
        Tolerance.AssertBitEqual(other.Dx.ToArray(), one.Dx.ToArray());
        Tolerance.AssertBitEqual(other.DWeight.ToArray(), one.DWeight.ToArray());
        Tolerance.AssertBitEqual(other.DBias.ToArray(), one.DBias.ToArray());
    }

    [Fact]
    public void No_text_is_refused() => Assert.Throws<ArgumentException>(() =>
        BagOfWords.Forward<BF16>(device, new(0, 1, 8, 8), default, default, default, default, default, default, default));

    private void Agrees<T>(int[] lengths, int dim, int vocabulary) where T : unmanaged, IElement
    {
        using Case<T> all = new(device, lengths, dim, vocabulary);
        all.Run();
        all.AssertAgrees();
    }

    /// <summary>One problem on the device, with poisoned outputs and gradients that are added to.</summary>
    private sealed class Case<T> : IDisposable where T : unmanaged, IElement
    {
        private readonly KernelDevice _device;
        private readonly BagOfWordsShape _shape;
        private readonly int[] _offsets;
        private readonly int[][] _words;
        private readonly DeviceTensor<T> _x, _weight, _bias;
        private readonly DeviceTensor<FP32> _scores, _logSumExp, _wordWeights, _lossGradient;
        private readonly double[] _dxBefore, _dWeightBefore, _dBiasBefore;
        private readonly List<DeviceMemory> _memory = [];
        private readonly BagOfWordsTexts _texts;
        private readonly BagOfWordsMaxima _maxima;

        public Case(KernelDevice device, int[] lengths, int dim, int vocabulary, Func<int, int[]>? words = null, bool whole = false, float? poison = null)
        {
            int rows = lengths.Sum(), texts = lengths.Length;
            (_device, _shape) = (device, new(texts, rows, dim, vocabulary));
            _offsets = [0, .. lengths.Select((_, i) => lengths[..(i + 1)].Sum())];
            _words = [.. Enumerable.Range(0, texts).Select(words ?? (b => [.. Enumerable.Range(0, 3 + b).Select(i => ((7 * i) + b) % vocabulary).Distinct()]))];
            RandomData data = new(rows + vocabulary);
            int padding = dim % 8 == 0 ? 8 : 3;
            double[] x = whole ? data.Integers(rows * dim, 1) : data.Uniform(rows * dim, 2);
            if (poison is { } bad) x[dim] = bad;
            _x = new(device, x, rows, dim, padding);
            _weight = new(device, whole ? data.Integers(vocabulary * dim, 1) : data.Uniform(vocabulary * dim), vocabulary, dim, padding);
            _bias = new(device, whole ? data.Integers(vocabulary, 1) : data.Uniform(vocabulary), 1, vocabulary);
            _scores = new(device, texts, vocabulary);
            _logSumExp = new(device, 1, texts);
            _wordWeights = new(device, [.. Enumerable.Range(0, texts).Select(b => 1.0 / (b + 2))], 1, texts);
            _lossGradient = new(device, [LossGradient], 1, 1);
            Loss = new(device, 1, 1);
            TextLoss = new(device, 1, texts);
            Dx = new(device, data.Uniform(rows * dim), rows, dim, padding);
            DWeight = new(device, data.Uniform(vocabulary * dim, 0.1), vocabulary, dim, padding);
            DBias = new(device, data.Uniform(vocabulary, 0.1), 1, vocabulary);
            (_dxBefore, _dWeightBefore, _dBiasBefore) = (Dx.ToDoubles(), DWeight.ToDoubles(), DBias.ToDoubles());
            int[] wordOffsets = [0, .. _words.Select((_, i) => _words[..(i + 1)].Sum(bag => bag.Length))];
            _texts = new(Upload(_offsets), 1, Upload([.. _words.SelectMany(bag => bag)]), Upload(wordOffsets), _wordWeights.Start);
            _maxima = new(_scores.Matrix, Upload(new int[texts * vocabulary]), _logSumExp.Start);
        }

        public DeviceTensor<FP32> Loss { get; }

        public DeviceTensor<FP32> TextLoss { get; }

        public DeviceTensor<T> Dx { get; }

        public DeviceTensor<FP32> DWeight { get; }

        public DeviceTensor<FP32> DBias { get; }

        public void Run(bool backward = true, bool accumulate = true)
        {
            BagOfWords.Forward(_device, _shape, _texts, _x.Matrix, _weight.Matrix, _bias.Start, _maxima, TextLoss.Start, Loss.Start);
            if (backward)
                BagOfWords.Backward(_device, _shape, _texts, _x.Matrix, _weight.Matrix, _maxima, new DeviceScalar(1, _lossGradient.Start), Dx.Matrix, accumulate, DWeight.Matrix, DBias.Start);
        }

        public int[] Tokens()
        {
            int[] tokens = new int[_shape.Texts * _shape.Vocabulary];
            _device.Download(_maxima.Tokens, tokens.AsSpan());
            return tokens;
        }

        /// <summary>Of each output the first row that has the largest score, in double precision.</summary>
        public int[] ExpectedTokens()
        {
            double[] scores = LinearReference.Forward(_x.ToDoubles(), _weight.ToDoubles(), _bias.ToDoubles(), _shape.Rows, _shape.Dim, _shape.Vocabulary);
            return [.. Enumerable.Range(0, _shape.Texts).SelectMany(b => Enumerable.Range(0, _shape.Vocabulary).Select(v =>
                Enumerable.Range(_offsets[b] + 1, _offsets[b + 1] - _offsets[b] - 1).MaxBy(row => scores[(row * _shape.Vocabulary) + v])))];
        }

        public void AssertAgrees(bool accumulate = true)
        {
            double[] x = _x.ToDoubles(), weight = _weight.ToDoubles(), bias = _bias.ToDoubles(), weights = _wordWeights.ToDoubles();
            (double loss, double[] textLoss) = BagOfWordsReference.Forward(x, weight, bias, _shape.Dim, _offsets, 1, _words, weights);
            (double[] dx, double[] dWeight, double[] dBias) = BagOfWordsReference.Backward(x, weight, bias, _shape.Dim, _offsets, 1, _words, weights);
            TextLoss.AssertNear(textLoss, what: "text losses");
            Loss.AssertNear([loss], what: "loss");
            Dx.AssertNear(Sum(accumulate ? _dxBefore : new double[dx.Length], dx), what: "dx");
            DWeight.AssertNear(Sum(_dWeightBefore, dWeight), what: "dweight");
            DBias.AssertNear(Sum(_dBiasBefore, dBias), what: "dbias");
            _scores.AssertPaddingUntouched();
        }

        public void Dispose()
        {
            foreach (DeviceMemory memory in _memory) memory.Dispose();
            foreach (IDisposable tensor in new IDisposable[] { _x, _weight, _bias, _scores, _logSumExp, _wordWeights, _lossGradient, Loss, TextLoss, Dx, DWeight, DBias }) tensor.Dispose();
        }

        private static double[] Sum(double[] before, double[] gradient) => [.. before.Zip(gradient, (x, y) => x + (LossGradient * y))];

        private DevicePointer<int> Upload(int[] values)
        {
            _memory.Add(_device.Allocate(values.Length * 4L));
            DevicePointer<int> pointer = new(_memory[^1].Address);
            _device.Upload<int>(values, pointer);
            return pointer;
        }
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedBagOfWordsTests(EmulationFixture fixture) : BagOfWordsTests(fixture.Device);

/// <summary>From the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxBagOfWordsTests(PtxFixture fixture) : BagOfWordsTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuBagOfWordsTests(GpuFixture fixture) : BagOfWordsTests(fixture.DeviceOrSkip());
