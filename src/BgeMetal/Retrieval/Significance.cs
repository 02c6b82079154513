using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>
/// Two-sided tests of paired differences (Smucker, Allan and Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation"):
/// how probable a mean difference at least this large is when the two systems are equally good.
/// </summary>
internal static class Significance
{
    /// <summary>Up to so many differences that are not zero all assignments of signs are counted; from there on they are drawn.</summary>
    public const int ExactUpTo = 16;

    /// <summary>Assignments that are drawn.</summary>
    public const int Trials = 100_000;

    private const int Group = 8;                          // differences whose 256 signed sums are tabulated together
    private const long SignFlips = 0x7369676E;            // tells these draws from others of the same seed

    /// <summary>Student's t-test of the differences' mean against 0; NaN for fewer than two differences.</summary>
    public static double TTest(ReadOnlySpan<double> differences)
    {
        int n = differences.Length;
        if (n < 2) return double.NaN;
        double mean = 0, squares = 0;
        foreach (double d in differences) mean += d / n;
        foreach (double d in differences) squares += (d - mean) * (d - mean);
        if (mean == 0) return 1;
        double t = mean / Math.Sqrt(squares / (n - 1) / n);
        return StudentT.TwoSided(t, n - 1);
    }

    /// <summary>
    /// Fisher's randomisation test: the share of assignments of signs to the differences whose sum is at least as far from 0 as the observed one. With more than
    /// <see cref="ExactUpTo"/> differences <see cref="Trials"/> assignments are drawn and the observed one counts as one more, so the result is never 0. A draw depends on
    /// the seed and its number alone. Cost: an addition for each 8 differences and assignment.
    /// </summary>
    public static double Randomization(ReadOnlySpan<double> differences, int seed)
    {
        double[] values = [.. differences.ToArray().Where(d => d != 0)];
        if (values.Length == 0) return 1;
        double[][] sums = [.. values.Chunk(Group).Select(SignedSums)];
        // Sums of the same values in another order differ by rounding, which must not break a tie.
        double bound = Math.Abs(values.Sum()) - (1e-10 * values.Sum(Math.Abs));
        if (values.Length <= ExactUpTo)
        {
            int extreme = 0, all = 1 << values.Length;
            for (int signs = 0; signs < all; signs++)
                if (Math.Abs(sums[0][signs & 255] + (sums.Length > 1 ? sums[1][signs >> Group] : 0)) >= bound) extreme++;
            return (double)extreme / all;
        }

        long drawn = 0;
        Parallel.For(0, Trials, () => (Extreme: 0L, Signs: new ulong[(sums.Length + 7) / 8]), (trial, _, local) =>
        {
            CounterRandom random = new(seed, SignFlips, trial);
            for (int i = 0; i < local.Signs.Length; i++) local.Signs[i] = random.Next();
            double sum = 0;
            for (int i = 0; i < sums.Length; i++) sum += sums[i][(int)(local.Signs[i / 8] >> (i % 8 * 8)) & 255];
            return (local.Extreme + (Math.Abs(sum) >= bound ? 1 : 0), local.Signs);
        }, local => Interlocked.Add(ref drawn, local.Extreme));
        return (drawn + 1.0) / (Trials + 1);
    }

    /// <summary>The sums of up to 8 values under all assignments of signs; bit i of the place is the sign of value i. Places beyond 2^values repeat.</summary>
    private static double[] SignedSums(double[] values)
    {
        double[] sums = new double[1 << Group];
        for (int signs = 0; signs < sums.Length; signs++)
            for (int i = 0; i < values.Length; i++) sums[signs] += (signs >> i & 1) == 0 ? values[i] : -values[i];
        return sums;
    }
}
