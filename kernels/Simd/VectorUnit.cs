using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Kernels.Simd;

/// <summary>The register width that the CPU kernels use.</summary>
public enum VectorWidth
{
    /// <summary>128-bit registers: SSE, AdvSimd, or plain software where there is neither.</summary>
    Bits128 = 128,

    /// <summary>256-bit registers: AVX2 with FMA.</summary>
    Bits256 = 256,

    /// <summary>512-bit registers: AVX-512.</summary>
    Bits512 = 512,
}

/// <summary>
/// What this processor's vector unit offers and which width the CPU kernels use: the widest one, chosen once at start-up. The runtime's own switches
/// (DOTNET_EnableAVX512=0, DOTNET_EnableAVX2=0) narrow it. Every kernel is defined on 16 virtual lanes with a fixed order of additions, so on a machine
/// that fuses multiply and add (<see cref="HasFusedMultiplyAdd"/>) all widths give bit-equal results; without fused multiply-add only 128-bit code
/// runs, and its results differ from the others by rounding.
/// </summary>
public static class VectorUnit
{
    /// <summary>The widest supported width.</summary>
    public static VectorWidth Widest { get; } =
        Avx512F.IsSupported ? VectorWidth.Bits512 : Avx2.IsSupported && Fma.IsSupported ? VectorWidth.Bits256 : VectorWidth.Bits128;

    /// <summary>Whether a multiply and an add round once.</summary>
    public static bool HasFusedMultiplyAdd => Fma.IsSupported || AdvSimd.IsSupported || Avx512F.IsSupported;

    /// <summary>The width in use.</summary>
    public static VectorWidth Width { get; private set; } = Widest;

    /// <summary>One line for a human: "512-bit, AVX-512, fused multiply-add".</summary>
    public static string Description =>
        $"{(int)Width}-bit, {Name(Width)}, {(HasFusedMultiplyAdd ? "fused multiply-add" : "no fused multiply-add")}";

    /// <summary>
    /// Uses a narrower width from now on, for tests and benchmarks that compare widths in one process. Not to be called while kernels run.
    /// </summary>
    /// <exception cref="PlatformNotSupportedException">The processor lacks <paramref name="width"/>.</exception>
    internal static void Use(VectorWidth width)
    {
        if (width > Widest) throw new PlatformNotSupportedException($"this processor has no {(int)width}-bit vector unit");
        Width = width;
    }

    /// <summary>a * b + c with one rounding where the machine has it, as the kernels' vectors do it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float MultiplyAdd(float a, float b, float c) =>
        Vector128.MultiplyAddEstimate(Vector128.CreateScalarUnsafe(a), Vector128.CreateScalarUnsafe(b), Vector128.CreateScalarUnsafe(c)).ToScalar();

    private static string Name(VectorWidth width) => width switch
    {
        VectorWidth.Bits512 => "AVX-512",
        VectorWidth.Bits256 => "AVX2",
        _ => AdvSimd.IsSupported ? "AdvSimd" : Vector128.IsHardwareAccelerated ? "SSE" : "software",
    };
}
