using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Bench;

/// <summary>Arguments of the peak kernels.</summary>
internal struct PeakArguments
{
    /// <summary>One sum for each thread, so that nothing is left out as unused.</summary>
    public DevicePointer<FP32> Result;

    /// <summary>How often the chain is run.</summary>
    public int Iterations;

    /// <summary>The operand: a binary32's bits, or an element's in both halves.</summary>
    public uint Operand;
}

/// <summary>
/// The roofs over a GPU's arithmetic: multiply-adds on registers alone, and mma.sync on registers alone. On Hopper the latter is below what wgmma
/// reaches; where there is cuBLAS, its best product is measured beside it.
/// </summary>
internal static class PeakKernels
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = 256;

    /// <summary>Operations of one iteration of a block.</summary>
    public const double MultiplyAddFlops = 512.0 * Threads, TensorFlops = 65536.0 * Threads / 32;

    [CudaKernel("Peak", KernelDirection.Update, Threads, Elements = ElementTypes.None)]
    public static void MultiplyAdd(PeakArguments arguments)
    {
        Accumulator64 sums = Accumulators.Zero<Accumulator64>();
        float x = Interop.IntAsFloat(arguments.Operand);
        for (int i = 0; i < arguments.Iterations; i++) sums = PeakInstructions.MultiplyAddUniform(sums, x);
        arguments.Result.Store((long)Grid.IdxX * Threads + Group.IdxX, PeakInstructions.Sum(sums));
    }

    [CudaKernel("Peak", KernelDirection.Update, Threads, Elements = ElementTypes.Low, TensorCores = true)]
    public static void TensorCores<T>(PeakArguments arguments) where T : unmanaged, IElement
    {
        Accumulator64 sums = Accumulators.Zero<Accumulator64>();
        for (int i = 0; i < arguments.Iterations; i++) sums = PeakInstructions.MultiplyUniform<T>(sums, arguments.Operand);
        arguments.Result.Store((long)Grid.IdxX * Threads + Group.IdxX, PeakInstructions.Sum(sums));
    }
}
