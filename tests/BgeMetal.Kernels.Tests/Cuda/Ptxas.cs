using BgeMetal.Kernels.Reports;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>NVIDIA's assembler, where the machine has one (<see cref="CudaToolkit.Find"/> says where it is looked for).</summary>
internal static class Ptxas
{
    /// <summary>Skips the calling test, with the reason, where there is no ptxas.</summary>
    public static void RequireOrSkip() => Assert.SkipUnless(KernelAssembler.IsAvailable, "no ptxas: set PTXAS, or put a CUDA toolkit's bin on the PATH");

    /// <summary>The assembler's release, for example 12.4: its numbers change from release to release.</summary>
    public static string Release => KernelAssembler.Release;

    /// <summary>Assembles <paramref name="ptx"/> for <paramref name="target"/> and counts the result's instructions.</summary>
    /// <exception cref="InvalidOperationException">ptxas refused the text; the message holds its output.</exception>
    public static AssembledKernel Assemble(string ptx, string target) => KernelAssembler.Assemble(ptx, target);
}
