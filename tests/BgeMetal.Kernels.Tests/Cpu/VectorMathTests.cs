using BgeMetal.Kernels.Simd;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class VectorMathTests
{
    [Fact]
    public void Gelu_is_within_a_millionth_or_two_roundings_of_the_exact_function() => CpuKernels.AtEachWidth(width =>
    {
        float[] x = Grid(-12, 12, 100_003);
        float[] y = Apply<GeluFunction>(x);
        for (int i = 0; i < x.Length; i++)
        {
            double error = Math.Abs(y[i] - ActivationReference.Gelu(x[i]));
            Assert.True(error <= Math.Max(1e-6, 2.5e-7 * x[i]), $"{width}: gelu({x[i]:g9}) = {y[i]:g9}, off by {error:g3}");
        }
        Assert.Equal(0f, Apply<GeluFunction>([0f])[0]);
        Assert.Equal(1e6f, Apply<GeluFunction>([1e6f])[0], 0.2f);
        Assert.True(Math.Abs(Apply<GeluFunction>([-1e6f])[0]) <= 1e-6f);
        Assert.True(float.IsNaN(Apply<GeluFunction>([float.NaN])[0]));
    });

    [Fact]
    public void The_derivative_of_gelu_is_within_two_millionths_everywhere() => CpuKernels.AtEachWidth(width =>
    {
        float[] x = [.. Grid(-14, 14, 100_003), -1e6f, 1e6f, float.NegativeInfinity, float.PositiveInfinity];
        float[] slope = Pair<GeluGradientPair>(x, [.. x.Select(_ => 1f)]);
        for (int i = 0; i < x.Length; i++)
        {
            double error = Math.Abs(slope[i] - (float.Abs(x[i]) > 100 ? x[i] > 0 ? 1 : 0 : ActivationReference.GeluDerivative(x[i])));
            Assert.True(error <= 2e-6, $"{width}: gelu'({x[i]:g9}) = {slope[i]:g9}, off by {error:g3}");
        }
        Assert.True(float.IsNaN(Pair<GeluGradientPair>([float.NaN], [1f])[0]));
    });

    [Fact]
    public void Tanh_has_a_small_relative_error_everywhere() => CpuKernels.AtEachWidth(width =>
    {
        float[] x = [.. Grid(-20, 20, 100_003), .. Grid(-1e-3, 1e-3, 10_001), 1e-30f, -1e-30f];
        float[] y = Apply<TanhFunction>(x);
        for (int i = 0; i < x.Length; i++)
        {
            double exact = Math.Tanh(x[i]), error = exact == 0 ? y[i] : Math.Abs((y[i] - exact) / exact);
            Assert.True(error <= 3e-7, $"{width}: tanh({x[i]:g9}) = {y[i]:g9}, relative error {error:g3}");
        }
        Assert.Equal([1f, -1f, 0f], Apply<TanhFunction>([float.PositiveInfinity, float.NegativeInfinity, 0f]));
        Assert.True(float.IsNaN(Apply<TanhFunction>([float.NaN])[0]));
    });

    [Fact]
    public void Exp2_has_a_small_relative_error_and_ends_in_zero() => CpuKernels.AtEachWidth(width =>
    {
        float[] x = Grid(-125.9, 127.4, 200_003);
        float[] y = Apply<Exp2Function>(x);
        for (int i = 0; i < x.Length; i++)
        {
            double error = Math.Abs((y[i] / Math.Pow(2, x[i])) - 1);
            Assert.True(error <= 2e-7, $"{width}: 2^{x[i]:g9} = {y[i]:g9}, relative error {error:g3}");
        }
        Assert.Equal([0f, 0f, 0f, 1f, 2f], Apply<Exp2Function>([float.NegativeInfinity, -1e30f, -126.5f, 0f, 1f]));
        Assert.True(float.IsNaN(Apply<Exp2Function>([float.NaN])[0]));
    });

    [Fact]
    public void The_error_function_of_the_oracle_matches_tabulated_values()
    {
        // Abramowitz and Stegun, table 7.1, and 1 - erfc(4) from its asymptotic expansion.
        Assert.Equal(0.5204998778130465, ActivationReference.Erf(0.5), 14);
        Assert.Equal(0.8427007929497149, ActivationReference.Erf(1), 14);
        Assert.Equal(0.9953222650189527, ActivationReference.Erf(2), 14);
        Assert.Equal(0.99999998458274209, ActivationReference.Erf(-4) * -1, 14);
        Assert.True(Math.Abs(ActivationReference.Erf(3.0000001) - ActivationReference.Erf(2.9999999)) < 1e-9);
    }

    private static float[] Apply<TFunction>(float[] x) where TFunction : struct, ILaneFunction
    {
        float[] y = [.. x];
        fixed (float* p = y) Elementwise.Apply<TFunction>(p, y.Length, 1, y.Length);
        return y;
    }

    private static float[] Pair<TFunction>(float[] x, float[] y) where TFunction : struct, ILanePair
    {
        float[] z = new float[x.Length];
        fixed (float* a = x, b = y, c = z) LanePairs.Row<TFunction>(a, b, c, z.Length);
        return z;
    }

    private static float[] Grid(double from, double to, int count) =>
        [.. Enumerable.Range(0, count).Select(i => (float)(from + ((to - from) * i / (count - 1))))];
}
