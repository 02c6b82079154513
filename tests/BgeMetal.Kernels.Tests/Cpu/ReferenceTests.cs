using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>The oracle's backward formulas, proved by central differences of its forward.</summary>
public sealed class ReferenceTests
{
    private readonly RandomData _data = new(42);

    [Theory]
    [InlineData(LinearEpilogue.None)]
    [InlineData(LinearEpilogue.Gelu)]
    [InlineData(LinearEpilogue.Tanh)]
    public void Linear(LinearEpilogue epilogue)
    {
        const int m = 3, k = 4, n = 5;
        double[] x = _data.Uniform(m * k), w = _data.Uniform(n * k), bias = _data.Uniform(n), dy = _data.Uniform(m * n);
        (double[] dx, double[] dw, double[] dbias) = LinearReference.Backward(dy, x, w, bias, m, k, n, epilogue);
        double Loss() => GradCheck.Weigh(LinearReference.Forward(x, w, bias, m, k, n, epilogue), dy);
        GradCheck.Check("dx", x, dx, Loss);
        GradCheck.Check("dweight", w, dw, Loss);
        GradCheck.Check("dbias", bias, dbias, Loss);
    }

    [Fact]
    public void Attention()
    {
        const int heads = 2, headDim = 3, width = heads * headDim;
        int[] queries = CpuKernels.Offsets(1, 4), keys = CpuKernels.Offsets(3, 4);
        double[] q = _data.Uniform(5 * width), k = _data.Uniform(7 * width), v = _data.Uniform(7 * width), dy = _data.Uniform(5 * width);
        (double[] dq, double[] dk, double[] dv) = AttentionReference.Backward(dy, q, k, v, queries, keys, heads, headDim, 0.7);
        double Loss() => GradCheck.Weigh(AttentionReference.Forward(q, k, v, queries, keys, heads, headDim, 0.7).Output, dy);
        GradCheck.Check("dq", q, dq, Loss);
        GradCheck.Check("dk", k, dk, Loss);
        GradCheck.Check("dv", v, dv, Loss);
    }

    [Fact]
    public void Attention_with_dropout()
    {
        const int heads = 2, headDim = 3, width = heads * headDim;
        int[] queries = CpuKernels.Offsets(2, 4), keys = CpuKernels.Offsets(3, 4);
        double[] q = _data.Uniform(6 * width), k = _data.Uniform(7 * width), v = _data.Uniform(7 * width), dy = _data.Uniform(6 * width);
        (double[] dq, double[] dk, double[] dv) = AttentionReference.Backward(dy, q, k, v, queries, keys, heads, headDim, 0.7, Factor);
        double Loss() => GradCheck.Weigh(AttentionReference.Forward(q, k, v, queries, keys, heads, headDim, 0.7, Factor).Output, dy);
        GradCheck.Check("dq", q, dq, Loss);
        GradCheck.Check("dk", k, dk, Loss);
        GradCheck.Check("dv", v, dv, Loss);

        static double Factor(int head, int row, int key) => (head + row + (2 * key)) % 3 == 0 ? 0 : 1.5;
    }

    [Fact]
    public void LayerNorm()
    {
        const int rows = 3, hidden = 5;
        double[] x = _data.Uniform(rows * hidden), gamma = _data.Uniform(hidden), beta = _data.Uniform(hidden), dy = _data.Uniform(rows * hidden);
        (double[] dx, double[] dgamma, double[] dbeta) = LayerNormReference.Backward(dy, x, gamma, rows, hidden, 1e-5);
        double Loss() => GradCheck.Weigh(LayerNormReference.Forward(x, gamma, beta, rows, hidden, 1e-5).Y, dy);
        GradCheck.Check("dx", x, dx, Loss);
        GradCheck.Check("dgamma", gamma, dgamma, Loss);
        GradCheck.Check("dbeta", beta, dbeta, Loss);
    }

    [Fact]
    public void Embedding()
    {
        const int hidden = 3;
        int[] ids = [0, 2, 2, 1], positions = [0, 1, 2, 3], types = [0, 1, 1, 0];
        double[] word = _data.Uniform(3 * hidden), position = _data.Uniform(4 * hidden), type = _data.Uniform(2 * hidden), dy = _data.Uniform(4 * hidden);
        double Loss() => GradCheck.Weigh(EmbeddingReference.Forward(ids, positions, types, word, position, type, hidden), dy);
        GradCheck.Check("dword", word, EmbeddingReference.Backward(dy, ids, 3, hidden), Loss);
        GradCheck.Check("dposition", position, EmbeddingReference.Backward(dy, positions, 4, hidden), Loss);
        GradCheck.Check("dtype", type, EmbeddingReference.Backward(dy, types, 2, hidden), Loss);
    }

    [Fact]
    public void Pooling()
    {
        const int hidden = 2;
        int[] offsets = CpuKernels.Offsets(1, 3);
        double[] x = _data.Uniform(4 * hidden), dy = _data.Uniform(2 * hidden);
        GradCheck.Check("cls", x, PoolingReference.ClsBackward(dy, offsets, hidden), () => GradCheck.Weigh(PoolingReference.Cls(x, offsets, hidden), dy));
        GradCheck.Check("mean", x, PoolingReference.MeanBackward(dy, offsets, hidden), () => GradCheck.Weigh(PoolingReference.Mean(x, offsets, hidden), dy));
    }

    [Fact]
    public void NormalizeRows()
    {
        double[] x = _data.Uniform(3 * 4), dy = _data.Uniform(3 * 4);
        GradCheck.Check("dx", x, NormalizeRowsReference.Backward(dy, x, 3, 4), () => GradCheck.Weigh(NormalizeRowsReference.Forward(x, 3, 4), dy));
    }

    [Fact]
    public void InfoNce_and_masked_language_modelling()
    {
        const int dim = 3;
        double[] x = _data.Uniform(4 * dim), y = _data.Uniform(5 * dim), bias = _data.Uniform(5);
        int[] targets = [0, 4, -100, 2];
        (double[] dx, double[] dy, double[] dbias) = InfoNceReference.Backward(x, y, bias, dim, 0.5, targets);
        double Loss() => InfoNceReference.Forward(x, y, bias, dim, 0.5, targets).Loss;
        GradCheck.Check("dx", x, dx, Loss);
        GradCheck.Check("dy", y, dy, Loss);
        GradCheck.Check("dbias", bias, dbias, Loss);
    }

    [Fact]
    public void Cross_entropies_of_scores()
    {
        const int rows = 3, columns = 6, group = 2;
        double[] scores = _data.Uniform(rows * columns, 2), targets = [.. _data.Uniform(rows * group).Select(Math.Abs)];
        int[] first = [0, 2, 4];
        GradCheck.Check("hard", scores, CrossEntropyReference.Hard(scores, columns, [1, -1, 5]).Gradient, () => CrossEntropyReference.Hard(scores, columns, [1, -1, 5]).Loss);
        GradCheck.Check("soft", scores, CrossEntropyReference.Soft(scores, columns, targets, group, first).Gradient,
            () => CrossEntropyReference.Soft(scores, columns, targets, group, first).Loss);
        GradCheck.Check("staircase", scores, CrossEntropyReference.Staircase(scores, columns, targets, group).Gradient,
            () => CrossEntropyReference.Staircase(scores, columns, targets, group).Loss);
    }

    [Fact]
    public void A_wrong_gradient_is_noticed()
    {
        double[] x = [1, 2];
        Assert.ThrowsAny<Exception>(() => GradCheck.Check("x", x, [2, 4.001], () => (x[0] * x[0]) + (x[1] * x[1])));
        GradCheck.Check("x", x, [2, 4], () => (x[0] * x[0]) + (x[1] * x[1]));
    }
}
