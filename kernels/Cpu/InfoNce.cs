using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The contrastive loss (van den Oord et al., arXiv:1807.03748): mean cross-entropy of the scores q p^T / temperature, where query b's right passage is
/// b * groupSize and the others are negatives: those of its own group, or of the whole batch. The [B, B * G] scores never exist
/// (<see cref="ScoreSoftmax"/>), so memory is O(B). The forms with targets compare any queries with any passages, as when the passages of all devices
/// are joined. Every sum has an order that depends on the shape alone.
/// </summary>
public static unsafe class InfoNce
{
    /// <summary>The loss of a batch.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, dim], rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="p">[queries * groupSize, dim].</param>
    /// <param name="ldp">At least dim.</param>
    /// <param name="queries">B; 0 gives a loss of 0.</param>
    /// <param name="groupSize">G, at least 1: passages of a query, the right one first.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="temperature">Positive.</param>
    /// <param name="inBatch">Whether the other groups are negatives too.</param>
    /// <param name="rowLoss">[queries] receives each query's cross-entropy.</param>
    /// <param name="logSumExp">[queries] receives the logarithm of the sum of exponentials, for the backward pass.</param>
    /// <returns>The mean of rowLoss, added up in order in double precision.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static float Forward(
        WorkerTeam team, float* q, int ldq, float* p, int ldp, int queries, int groupSize, int dim, float temperature, bool inBatch,
        float* rowLoss, float* logSumExp)
    {
        ScoreSoftmax scores = Batch(team, q, ldq, p, ldp, queries, groupSize, dim, temperature, logSumExp);
        if (inBatch) return scores.Forward(team, rowLoss);
        GroupJob job = new() { Scores = scores, GroupSize = groupSize, RowLoss = rowLoss };
        team.Run(ref job, queries);
        double sum = 0;
        for (int b = 0; b < queries; b++) sum += rowLoss[b];
        return (float)(sum / Math.Max(queries, 1));
    }

    /// <summary>The gradients of the loss with respect to queries and passages.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">As in the forward pass.</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="p">As in the forward pass.</param>
    /// <param name="ldp">At least dim.</param>
    /// <param name="queries">B.</param>
    /// <param name="groupSize">G.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="temperature">As in the forward pass.</param>
    /// <param name="inBatch">As in the forward pass.</param>
    /// <param name="logSumExp">[queries], from the forward pass.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dq">[queries, dim]; must not overlap the inputs.</param>
    /// <param name="lddq">At least dim.</param>
    /// <param name="accumulateQueries">Adds to dq instead of storing.</param>
    /// <param name="dp">[queries * groupSize, dim]; must not overlap the inputs.</param>
    /// <param name="lddp">At least dim.</param>
    /// <param name="accumulatePassages">Adds to dp instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(
        WorkerTeam team, float* q, int ldq, float* p, int ldp, int queries, int groupSize, int dim, float temperature, bool inBatch,
        float* logSumExp, float lossGradient, float* dq, int lddq, bool accumulateQueries, float* dp, int lddp, bool accumulatePassages)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(lddq, dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddp, dim);
        ScoreSoftmax scores = Batch(team, q, ldq, p, ldp, queries, groupSize, dim, temperature, logSumExp);
        float gradient = lossGradient / Math.Max(queries, 1);
        if (inBatch)
        {
            scores.GradientX(team, gradient, dq, lddq, accumulateQueries);
            if (queries > 0) scores.GradientY(team, gradient, dp, lddp, accumulatePassages);
            return;
        }
        GroupJob job = new()
        {
            Scores = scores,
            GroupSize = groupSize,
            Gradient = gradient,
            Dq = dq,
            StrideDq = lddq,
            AccumulateQueries = accumulateQueries,
            Dp = dp,
            StrideDp = lddp,
            AccumulatePassages = accumulatePassages,
        };
        team.Run(ref job, queries);
    }

    /// <summary>The loss of queries against passages that need not be in groups.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, dim].</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="queries">Queries; 0 gives a loss of 0.</param>
    /// <param name="p">[passages, dim].</param>
    /// <param name="ldp">At least dim.</param>
    /// <param name="passages">Passages, at least 1.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="temperature">Positive.</param>
    /// <param name="targets">[queries]: each query's right passage; a negative one leaves the query out of the loss.</param>
    /// <param name="rowLoss">[queries].</param>
    /// <param name="logSumExp">[queries]; +infinity for a query that is left out.</param>
    /// <returns>The mean over the queries that have a target; 0 without any.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A size or target is out of range.</exception>
    public static float Forward(
        WorkerTeam team, float* q, int ldq, int queries, float* p, int ldp, int passages, int dim, float temperature, int* targets,
        float* rowLoss, float* logSumExp) =>
        General(team, q, ldq, queries, p, ldp, 0, passages, dim, temperature, targets, logSumExp).Forward(team, rowLoss);

    /// <summary>dq of the form with targets. Any range of its queries may be given: rows do not depend on each other.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, dim].</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="queries">Queries.</param>
    /// <param name="p">[passages, dim]: all passages of the forward pass.</param>
    /// <param name="ldp">At least dim.</param>
    /// <param name="passages">Passages.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="temperature">As in the forward pass.</param>
    /// <param name="targets">[queries].</param>
    /// <param name="logSumExp">[queries], from the forward pass.</param>
    /// <param name="rowGradient">The gradient of each query's loss: that of the mean divided by the number of queries that count.</param>
    /// <param name="dq">[queries, dim].</param>
    /// <param name="lddq">At least dim.</param>
    /// <param name="accumulate">Adds instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void BackwardQueries(
        WorkerTeam team, float* q, int ldq, int queries, float* p, int ldp, int passages, int dim, float temperature, int* targets, float* logSumExp,
        float rowGradient, float* dq, int lddq, bool accumulate)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(lddq, dim);
        General(team, q, ldq, queries, p, ldp, 0, passages, dim, temperature, targets, logSumExp).GradientX(team, rowGradient, dq, lddq, accumulate);
    }

    /// <summary>dp of the form with targets, for a range of its passages.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[queries, dim]: all queries of the forward pass.</param>
    /// <param name="ldq">At least dim.</param>
    /// <param name="queries">Queries.</param>
    /// <param name="p">[passages, dim]: the range.</param>
    /// <param name="ldp">At least dim.</param>
    /// <param name="firstPassage">Where the range begins among the passages of the forward pass.</param>
    /// <param name="passages">Passages of the range.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="temperature">As in the forward pass.</param>
    /// <param name="targets">[queries], counted from the first passage of the forward pass.</param>
    /// <param name="logSumExp">[queries], from the forward pass.</param>
    /// <param name="rowGradient">The gradient of each query's loss.</param>
    /// <param name="dp">[passages, dim].</param>
    /// <param name="lddp">At least dim.</param>
    /// <param name="accumulate">Adds instead of storing.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void BackwardPassages(
        WorkerTeam team, float* q, int ldq, int queries, float* p, int ldp, int firstPassage, int passages, int dim, float temperature, int* targets,
        float* logSumExp, float rowGradient, float* dp, int lddp, bool accumulate)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstPassage);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddp, dim);
        General(team, q, ldq, queries, p, ldp, firstPassage, passages, dim, temperature, targets, logSumExp)
            .GradientY(team, rowGradient, dp, lddp, accumulate);
    }

    private static ScoreSoftmax Batch(
        WorkerTeam team, float* q, int ldq, float* p, int ldp, int queries, int groupSize, int dim, float temperature, float* logSumExp)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(queries);
        ArgumentOutOfRangeException.ThrowIfLessThan(groupSize, 1);
        ScoreSoftmax scores = General(team, q, ldq, queries, p, ldp, 0, Math.Max(1, checked(queries * groupSize)), dim, temperature, null, logSumExp);
        scores.TargetStep = groupSize;
        return scores;
    }

    private static ScoreSoftmax General(
        WorkerTeam team, float* q, int ldq, int queries, float* p, int ldp, int firstPassage, int passages, int dim, float temperature, int* targets,
        float* logSumExp)
    {
        ArgumentNullException.ThrowIfNull(team);
        ScoreSoftmax scores = new()
        {
            X = q,
            StrideX = ldq,
            Rows = queries,
            Y = p,
            StrideY = ldp,
            Columns = passages,
            Dim = dim,
            Factor = 1f / temperature,
            Targets = targets,
            FirstColumn = firstPassage,
            LogSumExp = logSumExp,
        };
        scores.Check();
        return scores;
    }

    /// <summary>One part is one query and its own group: the loss without gradients where there is no dq, else the gradients.</summary>
    private struct GroupJob : ITeamJob
    {
        public ScoreSoftmax Scores;
        public int GroupSize;
        public float* RowLoss;
        public float Gradient;
        public float* Dq;
        public nint StrideDq;
        public bool AccumulateQueries;
        public float* Dp;
        public nint StrideDp;
        public bool AccumulatePassages;

        public readonly void Execute(int part, int worker)
        {
            float* scores = ThreadScratch.Floats(GroupSize);
            float* q = Scores.X + (part * Scores.StrideX);
            float* p = Scores.Y + (part * GroupSize * Scores.StrideY);
            for (int g = 0; g < GroupSize; g++) scores[g] = DotProduct.Of(q, p + (g * Scores.StrideY), Scores.Dim) * Scores.Factor;
            if (Dq != null)
            {
                Spread(part, scores, q, p);
                return;
            }
            double log = LogSum.Exp(scores, GroupSize);
            Scores.LogSumExp[part] = (float)log;
            RowLoss[part] = (float)(log - scores[0]);
        }

        private readonly void Spread(int row, float* scores, float* q, float* p)
        {
            float* dq = Dq + (row * StrideDq);
            if (!AccumulateQueries) new Span<float>(dq, Scores.Dim).Clear();
            for (int g = 0; g < GroupSize; g++)
            {
                double probability = Math.Exp((double)scores[g] - Scores.LogSumExp[row]);
                float weight = (float)((g == 0 ? probability - 1 : probability) * Gradient) * Scores.Factor;
                float* dp = Dp + (((row * (nint)GroupSize) + g) * StrideDp);
                if (!AccumulatePassages) new Span<float>(dp, Scores.Dim).Clear();
                Elementwise.AddScaled(dq, p + (g * Scores.StrideY), weight, Scores.Dim);
                Elementwise.AddScaled(dp, q, weight, Scores.Dim);
            }
        }
    }
}
