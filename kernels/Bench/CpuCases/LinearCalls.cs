using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>Linear layers and their activations on the CPU, [T, K] times [N, K] transposed.</summary>
internal static unsafe class LinearCalls
{
    public static Action<WorkerTeam> Plain(CpuOperands o, BenchShape s) => Forward(o, s, LinearEpilogue.None);

    public static Action<WorkerTeam> WithGelu(CpuOperands o, BenchShape s) => Forward(o, s, LinearEpilogue.Gelu);

    public static Action<WorkerTeam> WithResidual(CpuOperands o, BenchShape s) => Forward(o, s, LinearEpilogue.Residual);

    /// <summary>dx = dy W: a forward product with the transposed weight, packed once a step.</summary>
    public static Action<WorkerTeam> InputGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], k = s["K"], n = s["N"], lddx = k + CpuOperands.Padding, lddy = n + CpuOperands.Padding;
        float* dy = o.Rows(t, n), packed = o.Floats(PackedMatrix.Length(k, n), 0.05f), dx = o.Rows(t, k);
        return team => Linear.Forward(team, dy, lddy, t, n, packed, null, k, LinearEpilogue.None, null, 0, dx, lddx);
    }

    public static Action<WorkerTeam> WeightGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], k = s["K"], n = s["N"], ldx = k + CpuOperands.Padding, lddy = n + CpuOperands.Padding;
        float* x = o.Rows(t, k), dy = o.Rows(t, n, 0.01f), dw = o.Floats((long)n * k);
        return team => LinearBackward.Weight(team, dy, lddy, x, ldx, t, n, k, dw, k);
    }

    public static Action<WorkerTeam> BiasGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], n = s["N"], lddy = n + CpuOperands.Padding;
        float* dy = o.Rows(t, n, 0.01f), db = o.Floats(n);
        return team => LinearBackward.Bias(team, dy, lddy, t, n, db);
    }

    public static Action<WorkerTeam> GeluAlone(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), y = o.Rows(t, d);
        return team => Gelu.Forward(team, x, ld, t, d, y, ld);
    }

    public static Action<WorkerTeam> GeluGradient(CpuOperands o, BenchShape s)
    {
        int t = s["T"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), dy = o.Rows(t, d), dx = o.Rows(t, d);
        return team => Gelu.Backward(team, x, ld, dy, ld, t, d, dx, ld);
    }

    private static Action<WorkerTeam> Forward(CpuOperands o, BenchShape s, LinearEpilogue epilogue)
    {
        int t = s["T"], k = s["K"], n = s["N"], ldx = k + CpuOperands.Padding, ldy = n + CpuOperands.Padding;
        float* x = o.Rows(t, k), packed = o.Floats(PackedMatrix.Length(n, k), 0.05f), bias = o.Floats(n + 32), y = o.Rows(t, n);
        float* residual = epilogue == LinearEpilogue.Residual ? o.Rows(t, n) : null;
        return team => Linear.Forward(team, x, ldx, t, k, packed, bias, n, epilogue, residual, ldy, y, ldy);
    }
}
