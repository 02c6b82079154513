using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>The contrastive loss and the masked-LM loss, which share their tiles.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class InfoNceTests
{
    // queries, group size, dim: ones, primes, tiles and their neighbours, several blocks of columns and of rows.
    public static TheoryData<int, int, int> Batches => new()
    {
        { 1, 1, 1 }, { 1, 2, 3 }, { 3, 1, 7 }, { 4, 2, 32 }, { 12, 8, 31 }, { 13, 3, 33 }, { 31, 17, 64 }, { 130, 2, 48 }, { 520, 2, 17 },
    };

    // rows, vocabulary, dim.
    public static TheoryData<int, int, int> Vocabularies => new()
    {
        { 1, 1, 1 }, { 2, 5, 3 }, { 13, 255, 32 }, { 11, 257, 33 }, { 33, 1031, 17 }, { 513, 300, 24 }, { 5, 17000, 9 }, { 400, 2100, 8 }, { 1030, 2050, 5 },
    };

    [Theory]
    [MemberData(nameof(Batches))]
    public void Loss_and_gradients_agree_with_the_oracle(int queries, int groupSize, int dim) => CpuKernels.AtEachWidth(width =>
    {
        foreach (bool inBatch in new[] { true, false })
        {
            Contrast problem = new(queries, groupSize, dim, inBatch);
            (double loss, double[] rowLoss, double[] dq, double[] dp) = problem.Reference();
            Contrast.Result result = problem.Run(WorkerTeam.Single, accumulate: false);
            string what = $"{width}, in batch {inBatch}";
            Assert.True(Math.Abs(result.Loss - loss) <= 1e-5 * Math.Max(1, loss), $"{what}: loss {result.Loss}, expected {loss}");
            Assert.True(Tolerance.MaxError(result.RowLoss, rowLoss) <= 1e-5 * Math.Max(1, rowLoss.Max()), $"{what}: row losses");
            if (queries * groupSize == 1 || (!inBatch && groupSize == 1)) continue;      // one column: probability 1, the gradient is rounding noise
            Tolerance.AssertNorm(result.Dq, dq, what: $"{what}: dq");
            Tolerance.AssertNorm(result.Dp, dp, what: $"{what}: dp");
            Contrast.Result added = problem.Run(WorkerTeam.Single, accumulate: true);
            Tolerance.AssertNorm(added.Dq, [.. dq.Zip(problem.Q, (a, b) => a + b)], what: $"{what}: dq added");
            Tolerance.AssertNorm(added.Dp, [.. dp.Zip(problem.P, (a, b) => a + b)], what: $"{what}: dp added");
        }
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_number_of_threads_does_not_show(bool inBatch)
    {
        Contrast problem = new(401, 3, 33, inBatch);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            Contrast.Result result = problem.Run(team, accumulate: false);
            return [result.Loss, .. result.RowLoss, .. result.Dq, .. result.Dp];
        });
    }

    [Fact]
    public void Ranges_of_rows_and_columns_give_the_gradients_of_the_whole()
    {
        const int rows = 37, columns = 301, dim = 20;
        RandomData data = new(5);
        double[] x = data.Uniform(rows * dim), y = data.Uniform(columns * dim);
        int[] targets = data.Indices(rows, columns);
        targets[3] = -1;
        (double[] dx, double[] dy, _) = InfoNceReference.Backward(x, y, null, dim, 0.5, targets);
        using PaddedMatrix q = new(x, rows, dim), p = new(y, columns, dim), dq = new(rows, dim), dp = new(columns, dim), loss = new(1, rows), log = new(1, rows);
        fixed (int* t = targets)
        {
            float mean = InfoNce.Forward(WorkerTeam.Single, q.Data, q.Stride, rows, p.Data, p.Stride, columns, dim, 0.5f, t, loss.Data, log.Data);
            Assert.Equal(InfoNceReference.Forward(x, y, null, dim, 0.5, targets).Loss, mean, 1e-5);
            foreach ((int first, int end) in new[] { (0, 10), (10, rows) })
                InfoNce.BackwardQueries(WorkerTeam.Single, q.Data + (first * q.Stride), q.Stride, end - first, p.Data, p.Stride, columns, dim, 0.5f, t + first,
                    log.Data + first, 1f / (rows - 1), dq.Data + (first * dq.Stride), dq.Stride, false);
            foreach ((int first, int end) in new[] { (0, 100), (100, columns) })
                InfoNce.BackwardPassages(WorkerTeam.Single, q.Data, q.Stride, rows, p.Data + (first * p.Stride), p.Stride, first, end - first, dim, 0.5f, t,
                    log.Data, 1f / (rows - 1), dp.Data + (first * dp.Stride), dp.Stride, false);
        }
        Tolerance.AssertNorm(dq.ToArray(), dx, what: "dq");
        Tolerance.AssertNorm(dp.ToArray(), dy, what: "dp");
    }

    [Fact]
    public void A_target_that_is_no_column_is_refused()
    {
        using PaddedMatrix x = new(new double[4], 2, 2), loss = new(1, 2), log = new(1, 2);
        int* targets = stackalloc int[] { 0, 2 };
        nint at = (nint)targets;
        Assert.Throws<ArgumentOutOfRangeException>(() => InfoNce.Forward(
            WorkerTeam.Single, x.Data, x.Stride, 2, x.Data, x.Stride, 2, 2, 1f, (int*)at, loss.Data, log.Data));
        Assert.Throws<ArgumentOutOfRangeException>(() => InfoNce.Forward(
            WorkerTeam.Single, x.Data, x.Stride, x.Data, x.Stride, 1, 2, 2, 0f, true, loss.Data, log.Data));
    }

    [Theory]
    [MemberData(nameof(Vocabularies))]
    public void Masked_language_modelling_agrees_with_the_oracle(int rows, int vocabulary, int dim)
    {
        Labelled problem = new(rows, vocabulary, dim);
        foreach (bool biased in new[] { true, false })
        {
            double[]? bias = biased ? problem.Bias : null;
            Labelled.Result result = problem.Run(WorkerTeam.Single, biased);
            (double loss, double[] rowLoss) = InfoNceReference.Forward(problem.X, problem.Weight, bias, dim, 1, problem.Labels);
            (double[] dx, double[] dweight, double[] dbias) = InfoNceReference.Backward(problem.X, problem.Weight, bias, dim, 1, problem.Labels);
            Assert.Equal(loss, result.Loss, 1e-5 * Math.Max(1, loss));
            Assert.True(Tolerance.MaxError(result.RowLoss, rowLoss) <= 1e-5 * Math.Max(1, rowLoss.Max()), "row losses");
            if (vocabulary == 1) continue;
            Tolerance.AssertNorm(result.Dx, dx, what: "dx");
            Tolerance.AssertNorm(result.Dweight, dweight, what: "dweight");
            if (biased) Tolerance.AssertNorm(result.Dbias, dbias, what: "dbias");
            Tolerance.AssertNorm(problem.Run(WorkerTeam.Single, biased, accumulate: true).Dx, [.. dx.Zip(problem.X, (a, b) => a + b)], what: "dx added");
        }
    }

    [Fact]
    public void Masked_language_modelling_gives_the_same_bits_for_any_team()
    {
        Labelled problem = new(140, 3000, 20);
        CpuKernels.AssertSameForAnyTeam(team =>
        {
            Labelled.Result result = problem.Run(team, biased: true);
            return [result.Loss, .. result.RowLoss, .. result.Dx, .. result.Dweight, .. result.Dbias];
        });
    }

    [Fact]
    public void Rows_without_a_label_have_neither_loss_nor_gradient()
    {
        Labelled problem = new(3, 40, 4);
        Array.Fill(problem.Labels, LinearCrossEntropy.Ignored);
        Labelled.Result result = problem.Run(WorkerTeam.Single, biased: true);
        Assert.Equal(0f, result.Loss);
        Assert.All((float[])[.. result.Dx, .. result.Dweight, .. result.Dbias], v => Assert.Equal(0f, v));
    }

    [Fact]
    public void Calls_allocate_no_managed_memory()
    {
        using PaddedMatrix x = new(new RandomData(1).Uniform(40 * 64), 40, 64), dx = new(40, 64), dy = new(40, 64), loss = new(1, 40), log = new(1, 40);
        using WorkerTeam team = new(2);
        int* labels = stackalloc int[40];
        for (int i = 0; i < 40; i++) labels[i] = i % 3;
        nint at = (nint)labels;
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            foreach (bool inBatch in (ReadOnlySpan<bool>)[true, false])
            {
                InfoNce.Forward(team, x.Data, x.Stride, x.Data, x.Stride, 20, 2, 64, 0.1f, inBatch, loss.Data, log.Data);
                InfoNce.Backward(team, x.Data, x.Stride, x.Data, x.Stride, 20, 2, 64, 0.1f, inBatch, log.Data, 1f, dx.Data, dx.Stride, false, dy.Data, dy.Stride, false);
            }
            LinearCrossEntropy.Forward(team, x.Data, x.Stride, 40, 64, x.Data, x.Stride, 40, null, (int*)at, loss.Data, log.Data);
            LinearCrossEntropy.Backward(team, x.Data, x.Stride, 40, 64, x.Data, x.Stride, 40, null, (int*)at, log.Data, 1f, dx.Data, dx.Stride, false, dy.Data, dy.Stride, null);
        }));
    }

    private sealed class Contrast
    {
        private const float Temperature = 0.05f;
        private readonly int _queries, _groupSize, _dim;
        private readonly bool _inBatch;

        public Contrast(int queries, int groupSize, int dim, bool inBatch)
        {
            (_queries, _groupSize, _dim, _inBatch) = (queries, groupSize, dim, inBatch);
            RandomData data = new(queries + dim);
            Q = data.Uniform(queries * dim, 1 / Math.Sqrt(dim));
            P = data.Uniform(queries * groupSize * dim, 1 / Math.Sqrt(dim));
        }

        public readonly record struct Result(float Loss, float[] RowLoss, float[] Dq, float[] Dp);

        public double[] Q { get; }

        public double[] P { get; }

        public (double Loss, double[] RowLoss, double[] Dq, double[] Dp) Reference()
        {
            if (_inBatch)
            {
                int[] targets = [.. Enumerable.Range(0, _queries).Select(b => b * _groupSize)];
                (double loss, double[] rowLoss) = InfoNceReference.Forward(Q, P, null, _dim, Temperature, targets);
                (double[] dq, double[] dp, _) = InfoNceReference.Backward(Q, P, null, _dim, Temperature, targets);
                return (loss, rowLoss, dq, dp);
            }
            List<double> rowLosses = [], dqs = [], dps = [];
            for (int b = 0; b < _queries; b++)
            {
                double[] q = Q.AsSpan(b * _dim, _dim).ToArray(), p = P.AsSpan(b * _groupSize * _dim, _groupSize * _dim).ToArray();
                rowLosses.Add(InfoNceReference.Forward(q, p, null, _dim, Temperature, [0]).Loss);
                (double[] dq, double[] dp, _) = InfoNceReference.Backward(q, p, null, _dim, Temperature, [0]);
                dqs.AddRange(dq.Select(v => v / _queries));
                dps.AddRange(dp.Select(v => v / _queries));
            }
            return (rowLosses.Average(), [.. rowLosses], [.. dqs], [.. dps]);
        }

        // With accumulate, the gradients are added to the inputs' values.
        public Result Run(WorkerTeam team, bool accumulate)
        {
            int passages = _queries * _groupSize;
            using PaddedMatrix q = new(Q, _queries, _dim), p = new(P, passages, _dim, 7), loss = new(1, _queries), log = new(1, _queries);
            using PaddedMatrix dq = accumulate ? new(Q, _queries, _dim) : new(_queries, _dim), dp = accumulate ? new(P, passages, _dim) : new(passages, _dim);
            float mean = InfoNce.Forward(team, q.Data, q.Stride, p.Data, p.Stride, _queries, _groupSize, _dim, Temperature, _inBatch, loss.Data, log.Data);
            InfoNce.Backward(team, q.Data, q.Stride, p.Data, p.Stride, _queries, _groupSize, _dim, Temperature, _inBatch, log.Data, 1f,
                dq.Data, dq.Stride, accumulate, dp.Data, dp.Stride, accumulate);
            foreach (PaddedMatrix result in new[] { loss, log, dq, dp }) result.AssertPaddingUntouched();
            return new Result(mean, loss.ToArray(), dq.ToArray(), dp.ToArray());
        }
    }

    private sealed class Labelled
    {
        private readonly int _rows, _vocabulary, _dim;

        public Labelled(int rows, int vocabulary, int dim)
        {
            (_rows, _vocabulary, _dim) = (rows, vocabulary, dim);
            RandomData data = new(rows + vocabulary);
            (X, Weight, Bias, Labels) = (data.Uniform(rows * dim, 3), data.Uniform(vocabulary * dim), data.Uniform(vocabulary), data.Indices(rows, vocabulary));
            for (int r = 2; r < rows; r += 5) Labels[r] = LinearCrossEntropy.Ignored;
        }

        public readonly record struct Result(float Loss, float[] RowLoss, float[] Dx, float[] Dweight, float[] Dbias);

        public double[] X { get; }

        public double[] Weight { get; }

        public double[] Bias { get; }

        public int[] Labels { get; }

        public Result Run(WorkerTeam team, bool biased, bool accumulate = false)
        {
            using PaddedMatrix x = new(X, _rows, _dim), w = new(Weight, _vocabulary, _dim), b = new(Bias, 1, _vocabulary), loss = new(1, _rows), log = new(1, _rows);
            using PaddedMatrix dx = accumulate ? new(X, _rows, _dim) : new(_rows, _dim), dw = new(new double[Weight.Length], _vocabulary, _dim), db = new(new double[_vocabulary], 1, _vocabulary);
            float mean;
            fixed (int* labels = Labels)
            {
                mean = LinearCrossEntropy.Forward(team, x.Data, x.Stride, _rows, _dim, w.Data, w.Stride, _vocabulary, biased ? b.Data : null, labels, loss.Data, log.Data);
                LinearCrossEntropy.Backward(team, x.Data, x.Stride, _rows, _dim, w.Data, w.Stride, _vocabulary, biased ? b.Data : null, labels, log.Data, 1f,
                    dx.Data, dx.Stride, accumulate, dw.Data, dw.Stride, biased ? db.Data : null);
            }
            foreach (PaddedMatrix result in new[] { loss, log, dx, dw, db }) result.AssertPaddingUntouched();
            return new Result(mean, loss.ToArray(), dx.ToArray(), dw.ToArray(), db.ToArray());
        }
    }
}
