namespace BgeMetal.Kernels.Primitives;

/// <summary>Eight consecutive elements in registers: 16 bytes of a half-precision type, 32 bytes of binary32.</summary>
internal struct Float8
{
    /// <summary>An element.</summary>
    public float A, B, C, D, E, F, G, H;

    /// <summary>Element by element.</summary>
    public static Float8 operator +(Float8 x, Float8 y) => new()
    {
        A = x.A + y.A,
        B = x.B + y.B,
        C = x.C + y.C,
        D = x.D + y.D,
        E = x.E + y.E,
        F = x.F + y.F,
        G = x.G + y.G,
        H = x.H + y.H,
    };

    /// <summary>Element by element.</summary>
    public static Float8 operator -(Float8 x, Float8 y) => new()
    {
        A = x.A - y.A,
        B = x.B - y.B,
        C = x.C - y.C,
        D = x.D - y.D,
        E = x.E - y.E,
        F = x.F - y.F,
        G = x.G - y.G,
        H = x.H - y.H,
    };

    /// <summary>Element by element.</summary>
    public static Float8 operator *(Float8 x, Float8 y) => new()
    {
        A = x.A * y.A,
        B = x.B * y.B,
        C = x.C * y.C,
        D = x.D * y.D,
        E = x.E * y.E,
        F = x.F * y.F,
        G = x.G * y.G,
        H = x.H * y.H,
    };

    /// <summary>Every element times <paramref name="y"/>.</summary>
    public static Float8 operator *(Float8 x, float y) => x * All(y);

    /// <summary>Every element minus <paramref name="y"/>.</summary>
    public static Float8 operator -(Float8 x, float y) => x - All(y);

    /// <summary>Eight times the same value.</summary>
    public static Float8 All(float x) => new() { A = x, B = x, C = x, D = x, E = x, F = x, G = x, H = x };

    /// <summary>The sum of the elements, as a balanced tree.</summary>
    public readonly float Sum() => (A + B + (C + D)) + (E + F + (G + H));

    /// <summary>The largest element; a NaN is ignored unless all are NaN.</summary>
    public readonly float Max() => DeviceMath.Max(
        DeviceMath.Max(DeviceMath.Max(A, B), DeviceMath.Max(C, D)), DeviceMath.Max(DeviceMath.Max(E, F), DeviceMath.Max(G, H)));

    /// <summary>The sum of the elements' products with those of <paramref name="y"/>, as a balanced tree.</summary>
    public readonly float Dot(Float8 y) => (this * y).Sum();

    /// <summary>Applies <typeparamref name="TFunction"/> to each element.</summary>
    public readonly Float8 Map<TFunction>() where TFunction : struct, IScalarFunction => new()
    {
        A = TFunction.Apply(A),
        B = TFunction.Apply(B),
        C = TFunction.Apply(C),
        D = TFunction.Apply(D),
        E = TFunction.Apply(E),
        F = TFunction.Apply(F),
        G = TFunction.Apply(G),
        H = TFunction.Apply(H),
    };
}

/// <summary>A function of one number, a compile-time parameter of vector code.</summary>
internal interface IScalarFunction
{
    /// <summary>The function's value at <paramref name="x"/>.</summary>
    static abstract float Apply(float x);
}
