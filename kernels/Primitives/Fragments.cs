namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Sixteen rows of a half-precision tile as mma's first operand, 32 columns wide: what <see cref="HeadMma.LoadRows"/> makes. Not accumulators, but registers
/// like them.
/// </summary>
internal struct Fragments8 : IAccumulator
{
    public static int Length => 8;

#pragma warning disable CS1591
    public int F0, F1, F2, F3, F4, F5, F6, F7;
#pragma warning restore CS1591
}

/// <summary>The same, 64 columns wide.</summary>
internal struct Fragments16 : IAccumulator
{
    public static int Length => 16;

#pragma warning disable CS1591
    public int F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
#pragma warning restore CS1591
}

/// <summary>The same, 128 columns wide.</summary>
internal struct Fragments32 : IAccumulator
{
    public static int Length => 32;

#pragma warning disable CS1591
    public int F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
    public int F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26, F27, F28, F29, F30, F31;
#pragma warning restore CS1591
}

/// <summary>In their place where there are no tensor cores: the rows stay in shared memory.</summary>
internal struct FragmentAddress : IAccumulator
{
    public static int Length => 1;

#pragma warning disable CS1591
    public int Address;
#pragma warning restore CS1591
}
