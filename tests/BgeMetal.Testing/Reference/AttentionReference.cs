namespace BgeMetal.Testing.Reference;

/// <summary>
/// softmax(q k^T * scale) v per sequence and head in double precision, the probabilities optionally multiplied by factors of dropout: a function of
/// head, query row and the key's place in its sequence; optionally only over the keys that a query row sees (by the key's place; a row that sees none
/// gives 0). q [Tq, H * Dh], k and v [Tk, H * Dh], contiguous; sequence b owns query rows
/// cuSeqlensQ[b]..cuSeqlensQ[b + 1] and key rows cuSeqlensK[b]..cuSeqlensK[b + 1].
/// </summary>
public static class AttentionReference
{
    /// <summary>Output [Tq, H * Dh] and the logarithm of the softmax denominators [H, Tq].</summary>
    public static (double[] Output, double[] LogSumExp) Forward(double[] q, double[] k, double[] v, int[] cuSeqlensQ, int[] cuSeqlensK, int numHeads,
        int headDim, double scale, Func<int, int, int, double>? dropout = null, Func<int, int, bool>? visible = null)
    {
        int queries = cuSeqlensQ[^1], width = numHeads * headDim;
        double[] output = new double[queries * width], logSumExp = new double[numHeads * queries];
        ForEachRow(cuSeqlensQ, cuSeqlensK, numHeads, (row, firstKey, endKey, head) =>
        {
            (double[] p, double lse) = Probabilities(q, k, row, firstKey, endKey, head, numHeads, headDim, scale, visible);
            logSumExp[(head * queries) + row] = lse;
            for (int d = 0; d < headDim; d++)
                for (int j = firstKey; j < endKey; j++)
                    output[(row * width) + (head * headDim) + d] += Dropped(p, j - firstKey) * v[(j * width) + (head * headDim) + d];

            double Dropped(double[] p, int j) => p[j] * (dropout?.Invoke(head, row, j) ?? 1);
        });
        return (output, logSumExp);
    }

    /// <summary>
    /// With P the probabilities and F the factors: dV = (P * F)^T dO, dP = (dO V^T) * F, dS = P * (dP - rowsum(P * dP)), dQ = scale * dS K,
    /// dK = scale * dS^T Q.
    /// </summary>
    public static (double[] Dq, double[] Dk, double[] Dv) Backward(double[] doutput, double[] q, double[] k, double[] v, int[] cuSeqlensQ, int[] cuSeqlensK,
        int numHeads, int headDim, double scale, Func<int, int, int, double>? dropout = null, Func<int, int, bool>? visible = null)
    {
        int width = numHeads * headDim;
        double[] dq = new double[q.Length], dk = new double[k.Length], dv = new double[v.Length];
        ForEachRow(cuSeqlensQ, cuSeqlensK, numHeads, (row, firstKey, endKey, head) =>
        {
            double[] p = Probabilities(q, k, row, firstKey, endKey, head, numHeads, headDim, scale, visible).P;
            double[] dp = new double[p.Length];
            int at = (row * width) + (head * headDim);
            for (int j = firstKey; j < endKey; j++)
            {
                int other = (j * width) + (head * headDim);
                double factor = dropout?.Invoke(head, row, j - firstKey) ?? 1;
                for (int d = 0; d < headDim; d++)
                {
                    dp[j - firstKey] += doutput[at + d] * v[other + d] * factor;
                    dv[other + d] += p[j - firstKey] * factor * doutput[at + d];
                }
            }
            double mean = 0;
            for (int j = 0; j < p.Length; j++) mean += p[j] * dp[j];
            for (int j = firstKey; j < endKey; j++)
            {
                int other = (j * width) + (head * headDim);
                double ds = p[j - firstKey] * (dp[j - firstKey] - mean) * scale;
                for (int d = 0; d < headDim; d++)
                {
                    dq[at + d] += ds * k[other + d];
                    dk[other + d] += ds * q[at + d];
                }
            }
        });
        return (dq, dk, dv);
    }

    private static void ForEachRow(int[] cuSeqlensQ, int[] cuSeqlensK, int numHeads, Action<int, int, int, int> visit)
    {
        for (int b = 0; b + 1 < cuSeqlensQ.Length; b++)
            for (int head = 0; head < numHeads; head++)
                for (int row = cuSeqlensQ[b]; row < cuSeqlensQ[b + 1]; row++)
                    visit(row, cuSeqlensK[b], cuSeqlensK[b + 1], head);
    }

    private static (double[] P, double LogSumExp) Probabilities(double[] q, double[] k, int row, int firstKey, int endKey, int head, int numHeads,
        int headDim, double scale, Func<int, int, bool>? visible)
    {
        int width = numHeads * headDim;
        double[] p = new double[endKey - firstKey];
        double most = double.NegativeInfinity, sum = 0;
        for (int j = firstKey; j < endKey; j++)
        {
            double s = 0;
            for (int d = 0; d < headDim; d++) s += q[(row * width) + (head * headDim) + d] * k[(j * width) + (head * headDim) + d];
            p[j - firstKey] = visible?.Invoke(row, j - firstKey) ?? true ? s * scale : double.NegativeInfinity;
            most = Math.Max(most, p[j - firstKey]);
        }
        if (double.IsNegativeInfinity(most)) return (new double[p.Length], double.PositiveInfinity);
        for (int j = 0; j < p.Length; j++) sum += p[j] = Math.Exp(p[j] - most);
        for (int j = 0; j < p.Length; j++) p[j] /= sum;
        return (p, most + Math.Log(sum));
    }
}
