namespace BgeMetal.Testing.Reference;

/// <summary>AdamW with decoupled decay, in double precision.</summary>
public static class AdamWReference
{
    /// <summary>Updates p, m and v in place; the step is counted from 1.</summary>
    public static void Step(double[] p, double[] grad, double[] m, double[] v, double lr, double beta1, double beta2, double epsilon, double weightDecay, int step)
    {
        for (int i = 0; i < p.Length; i++)
        {
            p[i] *= 1 - (lr * weightDecay);
            m[i] = (beta1 * m[i]) + ((1 - beta1) * grad[i]);
            v[i] = (beta2 * v[i]) + ((1 - beta2) * grad[i] * grad[i]);
            double first = m[i] / (1 - Math.Pow(beta1, step)), second = v[i] / (1 - Math.Pow(beta2, step));
            p[i] -= lr * first / (Math.Sqrt(second) + epsilon);
        }
    }
}
