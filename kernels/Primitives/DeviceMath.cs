using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Functions of one number. The hardware approximations flush subnormal results to zero and err by at most 2 units in the last place; erf and
/// tanh are minimax polynomials of full binary32 accuracy (errors below 2 units in the last place where the exponential is exact).
/// </summary>
internal static class DeviceMath
{
    /// <summary>The binary logarithm of e.</summary>
    public const float Log2E = 1.44269504f;

    private const float Ln2 = 0.693147181f;

    /// <summary>2^x.</summary>
    [IntrinsicImplementation]
    public static float Exp2(float x) => MathF.Pow(2, x);

    /// <summary>The binary logarithm.</summary>
    [IntrinsicImplementation]
    public static float Log2(float x) => MathF.Log2(x);

    /// <summary>1 / sqrt(x).</summary>
    [IntrinsicImplementation]
    public static float Rsqrt(float x) => 1 / MathF.Sqrt(x);

    /// <summary>sqrt(x).</summary>
    [IntrinsicImplementation]
    public static float Sqrt(float x) => MathF.Sqrt(x);

    /// <summary>1 / x.</summary>
    [IntrinsicImplementation]
    public static float Reciprocal(float x) => 1 / x;

    /// <summary>x * y + z, rounded once.</summary>
    [IntrinsicImplementation]
    public static float Fma(float x, float y, float z) => MathF.FusedMultiplyAdd(x, y, z);

    /// <summary>The magnitude of <paramref name="magnitude"/> with the sign of <paramref name="sign"/>.</summary>
    [IntrinsicImplementation]
    public static float CopySign(float magnitude, float sign) => MathF.CopySign(magnitude, sign);

    /// <summary>|x|.</summary>
    [IntrinsicImplementation]
    public static float Abs(float x) => MathF.Abs(x);

    /// <summary>The larger number; the other one when one is NaN.</summary>
    [IntrinsicImplementation]
    public static float Max(float x, float y) => float.MaxNumber(x, y);

    /// <summary>e^x.</summary>
    public static float Exp(float x) => Exp2(x * Log2E);

    /// <summary>The natural logarithm.</summary>
    public static float Log(float x) => Log2(x) * Ln2;

    /// <summary>The error function.</summary>
    public static float Erf(float x)
    {
        float t = Abs(x), s = x * x;
        float large = Fma(-1.72853470e-5f, t, 3.83197126e-4f);
        large = Fma(large, s, Fma(-3.88396438e-3f, t, 2.42546219e-2f));
        large = Fma(large, t, -1.06777877e-1f);
        large = Fma(large, t, -6.34846687e-1f);
        large = Fma(large, t, -1.28717512e-1f);
        large = 1 - Exp(Fma(large, t, -t));
        float small = Fma(-5.96761703e-4f, s, 4.99119423e-3f);
        small = Fma(small, s, -2.67681349e-2f);
        small = Fma(small, s, 1.12819925e-1f);
        small = Fma(small, s, -3.76125336e-1f);
        small = Fma(small, s, 1.28379166e-1f);
        return t > 0.927734375f ? CopySign(large, x) : Fma(small, x, x);
    }

    /// <summary>The hyperbolic tangent.</summary>
    public static float Tanh(float x)
    {
        float t = Abs(x), s = x * x;
        float large = 1 - 2 * Reciprocal(1 + Exp(2 * t));
        float small = Fma(1.57394409e-2f, s, -5.23025580e-2f);
        small = Fma(small, s, 1.33152470e-1f);
        small = Fma(small, s, -3.33327681e-1f);
        return t >= 0.55f ? CopySign(large, x) : Fma(small * s, x, x);
    }

    private static class Ptx
    {
        public static void Exp2(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "ex2.approx.ftz.f32");

        public static void Log2(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "lg2.approx.f32");

        public static void Rsqrt(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "rsqrt.approx.f32");

        public static void Sqrt(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "sqrt.approx.f32");

        public static void Reciprocal(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "rcp.approx.ftz.f32");

        public static void Abs(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Unary(new(generator, value), "abs.f32");

        public static void Max(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Binary(new(generator, value), "max.f32", swap: false);

        public static void CopySign(PTXBackend backend, PTXCodeGenerator generator, IrValue value) =>
            Binary(new(generator, value), "copysign.f32", swap: true);

        public static void Fma(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string x = call.Operand(0), y = call.Operand(1), z = call.Operand(2);
            call.Emit($"\tfma.rn.f32 {call.Result()}, {x}, {y}, {z};");
        }

        private static void Unary(PtxCall call, string instruction)
        {
            string x = call.Operand(0);
            call.Emit($"\t{instruction} {call.Result()}, {x};");
        }

        // copysign.f32 d, a, b takes the sign of a and the magnitude of b.
        private static void Binary(PtxCall call, string instruction, bool swap)
        {
            string x = call.Operand(0), y = call.Operand(1);
            call.Emit($"\t{instruction} {call.Result()}, {(swap ? y : x)}, {(swap ? x : y)};");
        }
    }
}
