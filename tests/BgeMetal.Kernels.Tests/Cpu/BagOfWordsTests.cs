using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>DupMAE's bag-of-words loss.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class BagOfWordsTests
{
    // lengths, vocabulary, dim.
    public static TheoryData<int[], int, int> Cases => new()
    {
        { [2], 2, 1 },
        { [7, 1, 33], 255, 33 },
        { [1, 17, 65], 257, 31 },
        { [13, 12], 1031, 130 },
        { [2, 3, 2, 4, 5, 30], 40, 48 },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Loss_and_gradients_agree_with_the_oracle(int[] lengths, int vocabulary, int dim) => CpuKernels.AtEachWidth(width =>
    {
        Problem problem = new(lengths, vocabulary, dim);
        foreach (bool biased in new[] { true, false })
        {
            (double loss, double[] textLoss, double[] dx, double[] dweight, double[] dbias) = problem.Reference(biased);
            Result result = problem.Run(WorkerTeam.Single, biased, accumulate: false);
            string what = $"{width}, bias {biased}";
            Assert.Equal(loss, result.Loss, 1e-5 * Math.Max(1, loss));
            Assert.True(Tolerance.MaxError(result.TextLoss, textLoss) <= 1e-5 * Math.Max(1, textLoss.Max()), $"{what}: losses of the texts");
            Tolerance.AssertNorm(result.Dx, dx, what: $"{what}: dx");
            Tolerance.AssertNorm(result.Dweight, dweight, what: $"{what}: dweight");
            if (biased) Tolerance.AssertNorm(result.Dbias, dbias, what: $"{what}: dbias");
            Result added = problem.Run(WorkerTeam.Single, biased, accumulate: true);
            Tolerance.AssertNorm(added.Dx, [.. dx.Zip(problem.X, (a, b) => a + b)], what: $"{what}: dx added");
        }
    });

    [Fact]
    public void The_oracles_gradients_are_its_differences()
    {
        Problem problem = new([5, 1, 9], 11, 4);
        (_, _, double[] dx, double[] dweight, double[] dbias) = problem.Reference(biased: true);
        GradCheck.Check("dx", problem.X, dx, () => problem.Reference(true).Loss);
        GradCheck.Check("dweight", problem.Weight, dweight, () => problem.Reference(true).Loss);
        GradCheck.Check("dbias", problem.Bias, dbias, () => problem.Reference(true).Loss);
    }

    [Fact]
    public void Of_equal_scores_the_first_token_gets_the_gradient()
    {
        Problem problem = new([4], 3, 2);
        for (int i = 4; i < 8; i++) problem.X[i] = problem.X[i - 2];     // tokens 2 and 3 repeat token 1
        Result result = problem.Run(WorkerTeam.Single, biased: false, accumulate: false);
        Assert.All(result.Dx[..2], v => Assert.Equal(0f, v));
        Assert.All(result.Dx[2..4], v => Assert.NotEqual(0f, v));
        Assert.All(result.Dx[4..], v => Assert.Equal(0f, v));
    }

    [Fact]
    public void A_text_without_words_or_tokens_has_neither_loss_nor_gradient()
    {
        Problem problem = new([1, 6], 20, 5) { NoWords = true };
        Result result = problem.Run(WorkerTeam.Single, biased: true, accumulate: false);
        Assert.Equal(0f, result.Loss);
        Assert.All((float[])[.. result.TextLoss, .. result.Dx, .. result.Dweight, .. result.Dbias], v => Assert.Equal(0f, v));
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void A_score_that_is_not_finite_shows_in_the_loss(double value)
    {
        Problem problem = new([3, 5], 300, 4);
        problem.X[(4 * 4) + 1] = value;
        Assert.False(float.IsFinite(problem.Run(WorkerTeam.Single, biased: true, accumulate: false).Loss));
    }

    [Fact]
    public void The_number_of_threads_does_not_show()
    {
        Problem problem = new([40, 3, 90], 1500, 140);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            Result result = problem.Run(team, biased: true, accumulate: false);
            return [result.Loss, .. result.TextLoss, .. result.Dx, .. result.Dweight, .. result.Dbias];
        });
    }

    [Fact]
    public void Impossible_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new Problem([4], 3, 2) { ForeignWord = true }.Run(WorkerTeam.Single, biased: false, accumulate: false));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Problem([4], 3, 2) { MaximaPadding = 12 }.Run(WorkerTeam.Single, biased: false, accumulate: false));
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(20 * 8), 20, 8), weight = new(new RandomData(2).Uniform(50 * 8), 50, 8);
        using PaddedMatrix maxima = new(2, 50, 16), log = new(1, 2), losses = new(1, 2), weights = new([0.5, 0.5], 1, 2), dx = new(20, 8), dweight = new(new double[50 * 8], 50, 8);
        using WorkerTeam team = new(2);
        int* cuSeqlens = stackalloc int[] { 0, 9, 20 }, words = stackalloc int[] { 3, 4, 7 }, offsets = stackalloc int[] { 0, 1, 3 }, tokens = stackalloc int[100];
        (nint cu, nint w, nint o, nint t) = ((nint)cuSeqlens, (nint)words, (nint)offsets, (nint)tokens);
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            BagOfWords.Forward(team, x.Data, x.Stride, 8, (int*)cu, 2, 1, weight.Data, weight.Stride, 50, null, (int*)w, (int*)o, weights.Data, maxima.Data, maxima.Stride,
                (int*)t, log.Data, losses.Data);
            BagOfWords.Backward(team, x.Data, x.Stride, 8, (int*)cu, 2, weight.Data, weight.Stride, 50, (int*)w, (int*)o, weights.Data, maxima.Data, maxima.Stride,
                (int*)t, log.Data, 1f, dx.Data, dx.Stride, false, dweight.Data, dweight.Stride, null);
        }));
    }

    private readonly record struct Result(float Loss, float[] TextLoss, float[] Dx, float[] Dweight, float[] Dbias);

    private sealed class Problem
    {
        private const int Skipped = 1;
        private readonly int _vocabulary, _dim;
        private readonly int[] _offsets;
        private readonly int[][] _words;
        private readonly double[] _weights;

        public Problem(int[] lengths, int vocabulary, int dim)
        {
            (_vocabulary, _dim, _offsets) = (vocabulary, dim, CpuKernels.Offsets(lengths));
            RandomData data = new(vocabulary + dim);
            X = data.Uniform(_offsets[^1] * dim, 2);
            Weight = data.Uniform(vocabulary * dim, 2);
            Bias = data.Uniform(vocabulary);
            _words = [.. lengths.Select(length => data.Indices(length, vocabulary).Distinct().ToArray())];
            _weights = [.. lengths.Select(length => (double)(float)(1.0 / length))];
        }

        public double[] X { get; }

        public double[] Weight { get; }

        public double[] Bias { get; }

        public bool NoWords { get; init; }

        public bool ForeignWord { get; init; }

        public int MaximaPadding { get; init; } = 16;

        private int[][] Words => NoWords ? [.. _words.Select(_ => Array.Empty<int>())] : ForeignWord ? [[_vocabulary]] : _words;

        public (double Loss, double[] TextLoss, double[] Dx, double[] Dweight, double[] Dbias) Reference(bool biased)
        {
            double[]? bias = biased ? Bias : null;
            (double loss, double[] textLoss) = BagOfWordsReference.Forward(X, Weight, bias, _dim, _offsets, Skipped, Words, _weights);
            (double[] dx, double[] dweight, double[] dbias) = BagOfWordsReference.Backward(X, Weight, bias, _dim, _offsets, Skipped, Words, _weights);
            return (loss, textLoss, dx, dweight, dbias);
        }

        public Result Run(WorkerTeam team, bool biased, bool accumulate)
        {
            int texts = _words.Length, rows = _offsets[^1];
            int[] words = [.. Words.SelectMany(list => list), 0], wordOffsets = CpuKernels.Offsets([.. Words.Select(list => list.Length)]), tokens = new int[texts * _vocabulary];
            using PaddedMatrix x = new(X, rows, _dim), weight = new(Weight, _vocabulary, _dim), bias = new(Bias, 1, _vocabulary), weights = new(_weights, 1, texts);
            using PaddedMatrix maxima = new(texts, _vocabulary, MaximaPadding), log = new(1, texts), losses = new(1, texts);
            using PaddedMatrix dx = accumulate ? new(X, rows, _dim) : new(rows, _dim);
            using PaddedMatrix dweight = new(new double[_vocabulary * _dim], _vocabulary, _dim), dbias = new(new double[_vocabulary], 1, _vocabulary);
            float loss;
            fixed (int* cu = _offsets, w = words, o = wordOffsets, t = tokens)
            {
                loss = BagOfWords.Forward(team, x.Data, x.Stride, _dim, cu, texts, Skipped, weight.Data, weight.Stride, _vocabulary, biased ? bias.Data : null, w, o,
                    weights.Data, maxima.Data, maxima.Stride, t, log.Data, losses.Data);
                float[] textLoss = losses.ToArray();
                BagOfWords.Backward(team, x.Data, x.Stride, _dim, cu, texts, weight.Data, weight.Stride, _vocabulary, w, o, weights.Data, maxima.Data, maxima.Stride, t,
                    log.Data, 1f, dx.Data, dx.Stride, accumulate, dweight.Data, dweight.Stride, biased ? dbias.Data : null);
                foreach (PaddedMatrix matrix in new[] { x, weight, losses, dx, dweight, dbias }) matrix.AssertPaddingUntouched();
                return new Result(loss, textLoss, dx.ToArray(), dweight.ToArray(), dbias.ToArray());
            }
        }
    }
}
