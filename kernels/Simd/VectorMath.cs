using System.Runtime.CompilerServices;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Elementary functions on sixteen lanes, without calls, tables or branches. Errors are bounds over the stated range, in units of the exact result
/// unless said otherwise; a NaN stays a NaN.
/// </summary>
internal static class VectorMath
{
    private const float RoundingShift = 12582912f;        // 1.5 * 2^23: adding it rounds to an integer, which then sits in the low bits

    /// <summary>log2(e), rounded to float.</summary>
    public const float Log2E = 1.44269504088896341f;

    /// <summary>
    /// 2^x for x &lt; 127.5, relative error below 2e-7. Results below 2^-126 are exactly 0, which makes -infinity a mask for softmax. Degree-6
    /// polynomial on [-1/2, 1/2] (coefficients of the Cephes library's exp2f).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Exp2<T>(T x) where T : unmanaged, ILanes<T>
    {
        T shifted = x + T.Create(RoundingShift);
        T f = x - (shifted - T.Create(RoundingShift));
        T p = T.MultiplyAdd(T.Create(1.535336188319500e-4f), f, T.Create(1.339887440266574e-3f));
        p = T.MultiplyAdd(p, f, T.Create(9.618437357674640e-3f));
        p = T.MultiplyAdd(p, f, T.Create(5.550332471162809e-2f));
        p = T.MultiplyAdd(p, f, T.Create(2.402264791363012e-1f));
        p = T.MultiplyAdd(p, f, T.Create(6.931472028550421e-1f));
        p = T.MultiplyAdd(p, f, T.Create(1f));
        return T.SelectLess(x, T.Create(-126f), T.Create(0f), p * T.PowerOfTwo(shifted));
    }

    /// <summary>
    /// x/2 * (1 + erf(x / sqrt 2)), the GELU of BERT (Hendrycks and Gimpel, arXiv:1606.08415, without the tanh approximation); absolute error below
    /// 1e-6 for x &lt;= 5.1, relative error below 2.5e-7 beyond. erf(x / sqrt 2) / x is even and smooth, so it is a polynomial in x^2, fitted on |x| &lt;= 5.1 and clamped beyond.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Gelu<T>(T x) where T : unmanaged, ILanes<T>
    {
        T bounded = T.Max(T.Create(-5.1f), x);            // in this order x86 keeps a NaN
        T c = T.Min(bounded, T.Create(5.1f));
        T p = ErrorFunctionRatio(c);
        T half = bounded * T.Create(0.5f);
        return T.MultiplyAdd(half * c, p, half);
    }

    // erf(x / sqrt 2) / x for |x| <= 5.1.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T ErrorFunctionRatio<T>(T c) where T : unmanaged, ILanes<T>
    {
        T t = T.MultiplyAdd(c * c, T.Create(2f / 26.01f), T.Create(-1f));
        T p = T.MultiplyAdd(T.Create(0.00130841357f), t, T.Create(-0.00391366892f));
        p = T.MultiplyAdd(p, t, T.Create(0.00480879191f));
        p = T.MultiplyAdd(p, t, T.Create(-0.00645923056f));
        p = T.MultiplyAdd(p, t, T.Create(0.0137199024f));
        p = T.MultiplyAdd(p, t, T.Create(-0.0240485277f));
        p = T.MultiplyAdd(p, t, T.Create(0.0349309556f));
        p = T.MultiplyAdd(p, t, T.Create(-0.0480329283f));
        p = T.MultiplyAdd(p, t, T.Create(0.0634320527f));
        p = T.MultiplyAdd(p, t, T.Create(-0.0804373175f));
        p = T.MultiplyAdd(p, t, T.Create(0.101565912f));
        p = T.MultiplyAdd(p, t, T.Create(-0.138006523f));
        p = T.MultiplyAdd(p, t, T.Create(0.277210563f));
        return p;
    }

    /// <summary>
    /// The derivative of <see cref="Gelu{T}"/>, Phi(x) + x phi(x), absolute error below 2e-6: Phi by the same polynomial, phi(x) = 2^(-x^2 log2(e) / 2) /
    /// sqrt(2 pi), with x held to 12, beyond which phi vanishes.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T GeluDerivative<T>(T x) where T : unmanaged, ILanes<T>
    {
        T bounded = T.Min(T.Create(12f), T.Max(T.Create(-12f), x));       // in this order x86 keeps a NaN
        T c = T.Min(T.Create(5.1f), T.Max(T.Create(-5.1f), x));
        T p = ErrorFunctionRatio(c);
        T density = Exp2(bounded * bounded * T.Create(-0.5f * Log2E)) * T.Create(0.398942280f);
        T cumulative = T.MultiplyAdd(c * p, T.Create(0.5f), T.Create(0.5f));
        return T.MultiplyAdd(bounded, density, cumulative);
    }

    /// <summary>
    /// tanh x, relative error below 3e-7: an odd polynomial for |x| &lt; 0.625 (coefficients of the Cephes library's tanhf), 1 - 2 / (e^2|x| + 1) beyond.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Tanh<T>(T x) where T : unmanaged, ILanes<T>
    {
        T magnitude = T.Abs(x);
        T z = x * x;
        T p = T.MultiplyAdd(T.Create(-5.70498872745e-3f), z, T.Create(2.06390887954e-2f));
        p = T.MultiplyAdd(p, z, T.Create(-5.37397155531e-2f));
        p = T.MultiplyAdd(p, z, T.Create(1.33314422036e-1f));
        p = T.MultiplyAdd(p, z, T.Create(-3.33332819422e-1f));
        T small = T.MultiplyAdd(p * z, x, x);
        T one = T.Create(1f);
        T limited = T.SelectLess(T.Create(15f), magnitude, T.Create(15f), magnitude);
        T large = one - (T.Create(2f) / (Exp2(limited * T.Create(2f * Log2E)) + one));
        large = T.SelectLess(x, T.Create(0f), T.Create(0f) - large, large);
        return T.SelectLess(magnitude, T.Create(0.625f), small, large);
    }
}
