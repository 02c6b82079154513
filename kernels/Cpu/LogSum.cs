namespace BgeMetal.Kernels.Cpu;

/// <summary>Logarithms of sums of exponentials of short rows, in double precision and in order; nothing overflows on the way and a NaN stays one.</summary>
internal static unsafe class LogSum
{
    /// <summary>log sum exp(x[i]) over 0..count; -infinity of nothing.</summary>
    public static double Exp(float* x, int count)
    {
        double largest = double.NegativeInfinity, sum = 0;
        for (int i = 0; i < count; i++)
            if (!(x[i] <= largest)) largest = x[i];
        for (int i = 0; i < count; i++) sum += Math.Exp(x[i] - largest);
        return count == 0 ? largest : largest + Math.Log(sum);
    }

    /// <summary>log sum exp(x[i]) over 0..count; -infinity of nothing.</summary>
    public static double Exp(double* x, int count)
    {
        double largest = double.NegativeInfinity, sum = 0;
        for (int i = 0; i < count; i++)
            if (!(x[i] <= largest)) largest = x[i];
        for (int i = 0; i < count; i++) sum += Math.Exp(x[i] - largest);
        return count == 0 ? largest : largest + Math.Log(sum);
    }

    /// <summary>log(exp(a) + exp(b)).</summary>
    public static double Both(double a, double b)
    {
        double largest = Math.Max(a, b);
        return double.IsNegativeInfinity(largest) ? largest : largest + Math.Log(Math.Exp(a - largest) + Math.Exp(b - largest));
    }
}
