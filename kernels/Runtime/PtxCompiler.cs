using System.Collections.Immutable;
using System.Reflection;
using BgeMetal.Kernels.Primitives;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.IR.Transformations;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// Compiles kernels to PTX, without a GPU or a driver. Thread-safe; the first compilation costs about half a second, later ones tens of
/// milliseconds. Each has an ILGPU context of its own: in a shared one the order of some moves depends on what was compiled before, and a text that
/// changes from run to run misses every cache.
/// </summary>
internal static class PtxCompiler
{
    /// <summary>The ILGPU version, part of the disk cache's key.</summary>
    public static string IlgpuVersion { get; } = typeof(Context).Assembly.GetName().Version?.ToString() ?? "unknown";

    /// <summary>A context with this project's optimisation level and intrinsics, for PTX and for the emulated device.</summary>
    public static Context CreateContext(Action<Context.Builder>? configure = null) => Context.Create(builder =>
    {
        // O1 would load and store through generic addresses.
        builder.Optimize(OptimizationLevel.O2);
        IntrinsicTable.Register(builder);
        configure?.Invoke(builder);
    });

    /// <summary>The kernel's PTX for <paramref name="target"/> (sm_80, sm_86, sm_89, sm_90, sm_90a, ...), ready to be loaded.</summary>
    /// <exception cref="InternalCompilerException">The method uses what ILGPU cannot compile.</exception>
    public static string Compile(KernelDescriptor kernel, string target)
    {
        // ISA 7.8 is the first that knows sm_90 and is read by every driver from 11.8 on; what only sm_90a has came with ISA 8.0 and CUDA 12.
        CudaArchitecture architecture = target.StartsWith("sm_9", StringComparison.Ordinal) ? CudaArchitecture.SM_90 : CudaArchitecture.SM_80;
        CudaInstructionSet language = target.EndsWith('a') ? CudaInstructionSet.ISA_80 : CudaInstructionSet.ISA_78;
        using Context context = CreateContext();
        using PTXBackend backend = new(context, new CudaCapabilityContext(architecture), architecture, language, null);
        KeepCallsInOrder(backend);
        EntryPointDescription entry = EntryPointDescription.FromExplicitlyGroupedKernel(kernel.Method);
        CompiledKernel compiled = backend.Compile(entry, new KernelSpecialization(kernel.Threads, kernel.MinBlocks));
        return PtxFixups.Apply(((PTXCompiledKernel)compiled).PTXAssembly, target, kernel.EntryName, kernel.ClusterBlocks);
    }

    // At O2 ILGPU moves calls that return something behind others that return nothing, towards their uses: a read of shared memory behind the barrier that was to follow it. Its
    // placement has a mode that leaves everything with side effects where it is, but no public way to ask for it.
    private static void KeepCallsInOrder(Backend backend)
    {
        const BindingFlags hidden = BindingFlags.Instance | BindingFlags.NonPublic;
        ImmutableArray<Transformer> stages = (ImmutableArray<Transformer>)typeof(Backend).GetProperty("KernelTransformers", hidden)!.GetValue(backend)!;
        CodePlacement[] placements = [.. stages.SelectMany(stage => stage.Transformations).OfType<CodePlacement>()];
        if (placements.Length == 0) throw new NotSupportedException("ILGPU's backend has no placement of code to restrain");
        FieldInfo mode = typeof(CodePlacement).GetField("<Mode>k__BackingField", hidden)!;
        foreach (CodePlacement placement in placements) mode.SetValue(placement, CodePlacementMode.Default);
    }
}
