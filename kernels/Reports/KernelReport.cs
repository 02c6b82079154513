using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Reports;

/// <summary>What is known of a kernel without running it: its text, and what the assembler makes of it where there is one.</summary>
public sealed record KernelReport
{
    private KernelReport(KernelDescriptor kernel, string architecture, string ptx) => (Kernel, Architecture, Ptx) = (kernel, architecture, ptx);

    /// <summary>The kernel.</summary>
    public KernelDescriptor Kernel { get; }

    /// <summary>What it was compiled for, for example sm_90.</summary>
    public string Architecture { get; }

    /// <summary>The text that is loaded, byte for byte.</summary>
    public string Ptx { get; }

    /// <summary>The assembler's account; null where there is no ptxas.</summary>
    public AssembledKernel? Assembled { get; private init; }

    /// <summary>Shared memory of a block, dynamic and static together; the static part is known only where there is a ptxas.</summary>
    public int SharedBytes => Kernel.SharedBytes + (Assembled?.StaticSharedBytes ?? 0);

    /// <summary>Blocks on a multiprocessor; null where the registers are not known.</summary>
    public Occupancy? Occupancy => Assembled is { Registers: > 0 } known ? Reports.Occupancy.Of(Architecture, Kernel.Threads, known.Registers, SharedBytes) : null;

    /// <summary>Compiles a kernel and, where there is a ptxas, assembles it. Takes a fraction of a second.</summary>
    /// <exception cref="ArgumentException">The architecture is none of <see cref="MultiprocessorLimits.Architectures"/>, or lacks the kernel's instructions.</exception>
    /// <exception cref="InvalidOperationException">ptxas refuses the text.</exception>
    public static KernelReport Create(KernelDescriptor kernel, string architecture)
    {
        string ptx = Compile(kernel, architecture);
        return new(kernel, architecture, ptx)
        {
            Assembled = KernelAssembler.IsAvailable ? KernelAssembler.Assemble(ptx, kernel.TargetFor(architecture), mix: true) : null,
        };
    }

    /// <summary>The text that <see cref="CudaDevice"/> loads for a GPU of this architecture.</summary>
    /// <exception cref="ArgumentException">The architecture is none of <see cref="MultiprocessorLimits.Architectures"/>, or lacks the kernel's instructions.</exception>
    public static string Compile(KernelDescriptor kernel, string architecture)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _ = MultiprocessorLimits.Of(architecture);
        return PtxCompiler.Compile(kernel, kernel.TargetFor(architecture));
    }
}
