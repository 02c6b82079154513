using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>GELU with the error function and its gradient, for training, where the pre-activation is kept.</summary>
public static unsafe class Gelu
{
    /// <summary>y = gelu(x), absolute error below 1e-6.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, cols], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="y">[rows, cols]; may be x.</param>
    /// <param name="ldy">At least cols.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(WorkerTeam team, float* x, int ldx, int rows, int cols, float* y, int ldy) =>
        RowMap.Run<GeluPair>(team, x, ldx, x, ldx, rows, cols, y, ldy);

    /// <summary>dx = dy * (Phi(x) + x phi(x)); the derivative's absolute error is below 2e-6.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, cols]: the pre-activation.</param>
    /// <param name="ldx">At least cols.</param>
    /// <param name="dy">[rows, cols].</param>
    /// <param name="lddy">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="dx">[rows, cols]; may be x or dy.</param>
    /// <param name="lddx">At least cols.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(WorkerTeam team, float* x, int ldx, float* dy, int lddy, int rows, int cols, float* dx, int lddx) =>
        RowMap.Run<GeluGradientPair>(team, x, ldx, dy, lddy, rows, cols, dx, lddx);
}

/// <summary>The gradient of a hyperbolic tangent, from its output.</summary>
public static unsafe class TanhGradient
{
    /// <summary>dx = dy * (1 - y^2).</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="y">[rows, cols]: the output of the forward pass.</param>
    /// <param name="ldy">At least cols.</param>
    /// <param name="dy">[rows, cols].</param>
    /// <param name="lddy">At least cols.</param>
    /// <param name="rows">Rows; 0 does nothing.</param>
    /// <param name="cols">Columns, at least 1.</param>
    /// <param name="dx">[rows, cols]; may be y or dy.</param>
    /// <param name="lddx">At least cols.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(WorkerTeam team, float* y, int ldy, float* dy, int lddy, int rows, int cols, float* dx, int lddx) =>
        RowMap.Run<TanhGradientPair>(team, y, ldy, dy, lddy, rows, cols, dx, lddx);
}
