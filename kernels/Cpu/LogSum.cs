namespace BgeMetal.Kernels.Cpu;

/// <summary>The logarithm of a sum of exponentials of a short row, in double precision and in order.</summary>
internal static unsafe class LogSum
{
    /// <summary>log sum exp(x[i]) over 0..count; a NaN stays one, and no overflow happens on the way.</summary>
    public static double Exp(float* x, int count)
    {
        double largest = double.NegativeInfinity, sum = 0;
        for (int i = 0; i < count; i++)
            if (!(x[i] <= largest)) largest = x[i];
        for (int i = 0; i < count; i++) sum += Math.Exp(x[i] - largest);
        return largest + Math.Log(sum);
    }
}
