using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>What goes through rows once on the CPU: embeddings, normalisations, pooling, the optimizer.</summary>
internal static unsafe class RowCalls
{
    private const int Positions = 512;

    public static Action<WorkerTeam> EmbeddingForward(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        int* ids = o.Integers(t, 7919, s["U"]), positions = o.Integers(t, 1, Positions), types = o.Integers(t, 0);
        float* word = o.Floats((long)s["U"] * d), position = o.Floats((long)Positions * d), type = o.Floats(d), y = o.Rows(t, d);
        return team => Embedding.Forward(team, ids, positions, types, t, word, position, type, d, y, ld);
    }

    public static Action<WorkerTeam> EmbeddingGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        int* ids = o.Integers(t, 7919, s["U"]);
        float* dy = o.Rows(t, d, 0.01f), dword = o.Floats((long)s["U"] * d);
        return team => EmbeddingBackward.Run(team, ids, ids, null, t, dy, ld, d, -1, -1, dword, null, null);
    }

    public static Action<WorkerTeam> LayerNormForward(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), y = o.Rows(t, d), gamma = o.Floats(d), beta = o.Floats(d);
        return team => LayerNorm.Forward(team, x, ld, t, d, gamma, beta, 1e-12f, y, ld, null, null);
    }

    public static Action<WorkerTeam> AddLayerNorm(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), residual = o.Rows(t, d), sum = o.Rows(t, d), y = o.Rows(t, d), gamma = o.Floats(d), beta = o.Floats(d);
        return team => LayerNorm.AddForward(team, x, ld, residual, ld, t, d, gamma, beta, 1e-12f, sum, ld, y, ld, null, null);
    }

    public static Action<WorkerTeam> LayerNormGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), dy = o.Rows(t, d), dx = o.Rows(t, d), gamma = o.Floats(d), mean = o.Floats(t), rstd = o.Positive(t), dgamma = o.Floats(d), dbeta = o.Floats(d);
        return team => LayerNormBackward.Run(team, x, ld, dy, ld, t, d, gamma, mean, rstd, dx, ld, false, dgamma, dbeta);
    }

    public static Action<WorkerTeam> DropoutForward(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), y = o.Rows(t, d);
        return team => Dropout.Forward(team, x, ld, t, d, 0.1f, 1, y, ld);
    }

    public static Action<WorkerTeam> MeanPooling(CpuOperands o, BenchShape s)
    {
        int b = s["B"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows((long)b * s["L"], d), y = o.Rows(b, d);
        int* cu = o.Integers(b + 1, s["L"]);
        return team => Pooling.Mean(team, x, ld, cu, b, d, y, ld);
    }

    public static Action<WorkerTeam> MeanPoolingGradient(CpuOperands o, BenchShape s)
    {
        int b = s["B"], d = s["D"], ld = d + CpuOperands.Padding;
        float* dx = o.Rows((long)b * s["L"], d), dy = o.Rows(b, d);
        int* cu = o.Integers(b + 1, s["L"]);
        return team => PoolingBackward.Mean(team, dy, ld, cu, b, d, dx, ld);
    }

    public static Action<WorkerTeam> Normalize(CpuOperands o, BenchShape s)
    {
        int b = s["B"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(b, d), y = o.Rows(b, d);
        return team => NormalizeRows.Forward(team, x, ld, b, d, y, ld);
    }

    public static Action<WorkerTeam> NormalizeGradient(CpuOperands o, BenchShape s)
    {
        int b = s["B"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(b, d), dy = o.Rows(b, d), dx = o.Rows(b, d);
        return team => NormalizeRowsBackward.Run(team, x, ld, dy, ld, b, d, dx, ld, false);
    }

    public static Action<WorkerTeam> AdamWStep(CpuOperands o, BenchShape s)
    {
        int p = s["P"];
        float* master = o.Floats(p), gradient = o.Floats(p, 0.01f), first = o.Floats(p, 0.01f), second = o.Positive(p);
        return team => AdamW.Step(team, master, gradient, first, second, 0, p, 1e-5, 0.9, 0.999, 1e-8, 0.01, 0.5, 0.5, 1f);
    }

    public static Action<WorkerTeam> SumOfSquares(CpuOperands o, BenchShape s)
    {
        int p = s["P"];
        float* gradient = o.Floats(p);
        return team => GlobalNorm.SumOfSquares(team, gradient, p);
    }
}
