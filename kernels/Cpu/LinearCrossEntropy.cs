namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The masked-LM loss: mean cross-entropy of softmax(x W^T + bias) over the rows that carry a label, without the [rows, vocabulary] logits
/// (<see cref="ScoreSoftmax"/>). The weight is row-major, as it is stored and updated: it is transposed tile by tile on the way, which costs a tenth of
/// the arithmetic at 300 rows. Cost: forward 2 R V D FLOP, backward 6 R V D, because logits are computed again (<see cref="VocabularyGradients"/>).
/// </summary>
public static unsafe class LinearCrossEntropy
{
    /// <summary>The label of a row that does not count; every negative label is one.</summary>
    public const int Ignored = -100;

    /// <summary>The mean loss.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, dim], rows <paramref name="ldx"/> floats apart. Passing labelled rows only saves their arithmetic.</param>
    /// <param name="ldx">At least dim.</param>
    /// <param name="rows">Rows; 0 gives a loss of 0.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="weight">[vocabulary, dim].</param>
    /// <param name="ldWeight">At least dim.</param>
    /// <param name="vocabulary">Outputs, at least 1.</param>
    /// <param name="bias">[vocabulary], or null.</param>
    /// <param name="labels">[rows]: the right output, or a negative number.</param>
    /// <param name="rowLoss">[rows] receives each row's cross-entropy, 0 where there is no label.</param>
    /// <param name="logSumExp">[rows] for the backward pass; +infinity where there is no label.</param>
    /// <returns>The mean over labelled rows, added up in order in double precision; 0 without any.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A size or label is out of range.</exception>
    public static float Forward(
        WorkerTeam team, float* x, int ldx, int rows, int dim, float* weight, int ldWeight, int vocabulary, float* bias, int* labels,
        float* rowLoss, float* logSumExp) =>
        Scores(team, x, ldx, rows, dim, weight, ldWeight, vocabulary, bias, labels, logSumExp).Forward(team, rowLoss);

    /// <summary>dx (stored or added), dweight and dbias (added).</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">As in the forward pass.</param>
    /// <param name="ldx">At least dim.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="weight">As in the forward pass.</param>
    /// <param name="ldWeight">At least dim.</param>
    /// <param name="vocabulary">Outputs.</param>
    /// <param name="bias">[vocabulary], or null.</param>
    /// <param name="labels">[rows].</param>
    /// <param name="logSumExp">[rows], from the forward pass.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dx">[rows, dim]; rows without a label get 0.</param>
    /// <param name="lddx">At least dim.</param>
    /// <param name="accumulateDx">Adds to dx instead of storing.</param>
    /// <param name="dweight">[vocabulary, dim], added to.</param>
    /// <param name="lddWeight">At least dim.</param>
    /// <param name="dbias">[vocabulary], added to, or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(
        WorkerTeam team, float* x, int ldx, int rows, int dim, float* weight, int ldWeight, int vocabulary, float* bias, int* labels,
        float* logSumExp, float lossGradient, float* dx, int lddx, bool accumulateDx, float* dweight, int lddWeight, float* dbias)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(lddx, dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddWeight, dim);
        ScoreSoftmax scores = Scores(team, x, ldx, rows, dim, weight, ldWeight, vocabulary, bias, labels, logSumExp);
        if (rows == 0) return;
        VocabularyGradients gradients = new()
        {
            Scores = scores,
            Gradient = lossGradient / Math.Max(scores.CountingRows(), 1),
            Dx = dx,
            StrideDx = lddx,
            AccumulateDx = accumulateDx,
            Dweight = dweight,
            StrideDweight = lddWeight,
            Dbias = dbias,
        };
        gradients.Run(team);
    }

    private static ScoreSoftmax Scores(
        WorkerTeam team, float* x, int ldx, int rows, int dim, float* weight, int ldWeight, int vocabulary, float* bias, int* labels, float* logSumExp)
    {
        ArgumentNullException.ThrowIfNull(team);
        if (rows > 0) ArgumentNullException.ThrowIfNull(labels);
        ScoreSoftmax scores = new()
        {
            X = x,
            StrideX = ldx,
            Rows = rows,
            Y = weight,
            StrideY = ldWeight,
            Columns = vocabulary,
            Dim = dim,
            Bias = bias,
            Factor = 1f,
            Targets = labels,
            LogSumExp = logSumExp,
        };
        scores.Check();
        return scores;
    }
}
