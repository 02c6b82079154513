namespace BgeMetal.Testing.Reference;

/// <summary>First row or mean row of each sequence of [T, hidden], in double precision.</summary>
public static class PoolingReference
{
    public static double[] Cls(double[] x, int[] cuSeqlens, int hidden)
    {
        double[] y = new double[(cuSeqlens.Length - 1) * hidden];
        for (int b = 0; b + 1 < cuSeqlens.Length; b++)
            for (int i = 0; i < hidden; i++)
                y[(b * hidden) + i] = x[(cuSeqlens[b] * hidden) + i];
        return y;
    }

    public static double[] ClsBackward(double[] dy, int[] cuSeqlens, int hidden)
    {
        double[] dx = new double[cuSeqlens[^1] * hidden];
        for (int b = 0; b + 1 < cuSeqlens.Length; b++)
            for (int i = 0; i < hidden; i++)
                dx[(cuSeqlens[b] * hidden) + i] = dy[(b * hidden) + i];
        return dx;
    }

    public static double[] Mean(double[] x, int[] cuSeqlens, int hidden)
    {
        double[] y = new double[(cuSeqlens.Length - 1) * hidden];
        for (int b = 0; b + 1 < cuSeqlens.Length; b++)
            for (int t = cuSeqlens[b]; t < cuSeqlens[b + 1]; t++)
                for (int i = 0; i < hidden; i++)
                    y[(b * hidden) + i] += x[(t * hidden) + i] / (cuSeqlens[b + 1] - cuSeqlens[b]);
        return y;
    }

    public static double[] MeanBackward(double[] dy, int[] cuSeqlens, int hidden)
    {
        double[] dx = new double[cuSeqlens[^1] * hidden];
        for (int b = 0; b + 1 < cuSeqlens.Length; b++)
            for (int t = cuSeqlens[b]; t < cuSeqlens[b + 1]; t++)
                for (int i = 0; i < hidden; i++)
                    dx[(t * hidden) + i] = dy[(b * hidden) + i] / (cuSeqlens[b + 1] - cuSeqlens[b]);
        return dx;
    }
}
