using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>A struct of nothing but 32-bit fields that stay in registers; fields are reached by intrinsics only.</summary>
internal interface IAccumulator
{
    /// <summary>The number of fields.</summary>
    static abstract int Length { get; }
}

/// <summary>The accumulators of one lane: 16 registers.</summary>
internal struct Accumulator16 : IAccumulator
{
    public static int Length => 16;

#pragma warning disable CS1591
    public float F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
#pragma warning restore CS1591
}

/// <summary>The accumulators of one lane: 32 registers.</summary>
internal struct Accumulator32 : IAccumulator
{
    public static int Length => 32;

#pragma warning disable CS1591
    public float F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
    public float F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26, F27, F28, F29, F30, F31;
#pragma warning restore CS1591
}

/// <summary>The accumulators of one lane: 64 registers.</summary>
internal struct Accumulator64 : IAccumulator
{
    public static int Length => 64;

#pragma warning disable CS1591
    public float F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
    public float F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26, F27, F28, F29, F30, F31;
    public float F32, F33, F34, F35, F36, F37, F38, F39, F40, F41, F42, F43, F44, F45, F46, F47;
    public float F48, F49, F50, F51, F52, F53, F54, F55, F56, F57, F58, F59, F60, F61, F62, F63;
#pragma warning restore CS1591
}

/// <summary>The accumulators of one lane: 128 registers.</summary>
internal struct Accumulator128 : IAccumulator
{
    public static int Length => 128;

#pragma warning disable CS1591
    public float F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13, F14, F15;
    public float F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26, F27, F28, F29, F30, F31;
    public float F32, F33, F34, F35, F36, F37, F38, F39, F40, F41, F42, F43, F44, F45, F46, F47;
    public float F48, F49, F50, F51, F52, F53, F54, F55, F56, F57, F58, F59, F60, F61, F62, F63;
    public float F64, F65, F66, F67, F68, F69, F70, F71, F72, F73, F74, F75, F76, F77, F78, F79;
    public float F80, F81, F82, F83, F84, F85, F86, F87, F88, F89, F90, F91, F92, F93, F94, F95;
    public float F96, F97, F98, F99, F100, F101, F102, F103, F104, F105, F106, F107, F108, F109, F110, F111;
    public float F112, F113, F114, F115, F116, F117, F118, F119, F120, F121, F122, F123, F124, F125, F126, F127;
#pragma warning restore CS1591
}

/// <summary>Makes accumulators. <c>default</c> would be a constant, which has no registers to accumulate in.</summary>
internal static class Accumulators
{
    /// <summary>All zero, in registers.</summary>
    [IntrinsicImplementation]
    public static TAcc Zero<TAcc>() where TAcc : unmanaged, IAccumulator => default;

    /// <summary>The fields of an accumulator on the host.</summary>
    public static unsafe Span<float> Fields<TAcc>(ref TAcc accumulator) where TAcc : unmanaged, IAccumulator =>
        MemoryMarshal.CreateSpan(ref Unsafe.As<TAcc, float>(ref accumulator), sizeof(TAcc) / sizeof(float));

    /// <summary>The same fields as integers.</summary>
    public static unsafe Span<int> Words<TAcc>(ref TAcc accumulator) where TAcc : unmanaged, IAccumulator =>
        MemoryMarshal.CreateSpan(ref Unsafe.As<TAcc, int>(ref accumulator), sizeof(TAcc) / sizeof(int));

    private static class Ptx
    {
        public static void Zero(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            StringBuilder text = new();
            foreach (string register in call.Results()) text.Append($"\tmov.f32 {register}, 0f00000000;\n");
            call.Emit(text);
        }
    }
}
